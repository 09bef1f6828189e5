"""Measuring a detector: pictures through it, figures from what it found, the report."""
