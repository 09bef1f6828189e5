"""Pictures and video: read, listed, drawn on, written, shown."""
