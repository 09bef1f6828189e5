"""What every room uses: files read and written safely, options, progress, schemas; nothing of faces."""
