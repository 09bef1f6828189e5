"""Export targets, one a file, all of the same graph: raw BGR pixels in, boxes and scores (or levels) out."""
