"""Weights: checkpoints, published snapshots, other systems' files under our names."""
