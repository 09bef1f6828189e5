"""Label formats, one a file, all read into the same PictureLabels; and pictures."""
