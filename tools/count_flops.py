"""Counts a network's cost: python tools/count_flops.py TEMPLATE [--per-layer] (the same as `facekit flops`)."""

import sys

from facekit.cli import main

if __name__ == "__main__":
    main(["flops", *sys.argv[1:]], prog_name="count_flops.py")
