"""Makes a work dir: python tools/instantiate_template.py TEMPLATE WORK_DIR (the same as `facekit instantiate`)."""

import sys

from facekit.cli import main

if __name__ == "__main__":
    main(["instantiate", *sys.argv[1:]], prog_name="instantiate_template.py")
