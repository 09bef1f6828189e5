"""Heads that more than one network has."""
