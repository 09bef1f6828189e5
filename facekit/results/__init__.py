"""Detections on disk."""
