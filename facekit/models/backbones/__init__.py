"""Backbones that torchvision lacks, each returning the features of its taps."""
