"""What a file says of itself: by its own words, else by the shapes and values of what it gives."""
