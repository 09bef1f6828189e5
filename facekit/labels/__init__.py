"""Labels of faces, whatever format they come in."""
