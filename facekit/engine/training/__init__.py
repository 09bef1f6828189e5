"""A training run: its loop, its recipe, and how it is saved, stopped and gone on with."""
