"""Virtual environments on top of the one that runs: for converters whose packages would not go with facekit's."""

from __future__ import annotations

import logging
import shutil
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from facekit.errors import FacekitError
from facekit.targets.writing.converters import run_converter
from facekit.weights.snapshots import cache_dir

log = logging.getLogger(__name__)

DONE = "facekit-complete"  # written last: an environment without it was never finished


def overlay_python(name: str, packages: Sequence[str], what: str) -> Path:
    """The interpreter of an environment that sees the packages of this one, and before them `packages`, pinned. It lies
    in the cache, and is made when it isn't there.

    Raises FacekitError where it can't be made, such as without a network.
    """
    folder = overlay_folder(name)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (folder / DONE).is_file():
        return python
    log.info("Making an environment for %s in %s, once ...", what, folder)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        venv.create(folder, with_pip=True, symlinks=sys.platform != "win32")
        libraries = folder / "Lib" if sys.platform == "win32" else next((folder / "lib").glob("python*"))
        below = [path for path in sys.path if path.endswith("site-packages")]
        (libraries / "site-packages" / "below.pth").write_text("\n".join(below) + "\n", encoding="utf-8")
        run_converter([python, "-m", "pip", "install", "--no-deps", "--quiet", *packages], folder, "pip")
    except (OSError, StopIteration) as error:
        raise FacekitError(f"{folder}: can't be made ({error}). Set FACEKIT_CACHE to a folder with space.") from error
    (folder / DONE).touch()
    return python


def overlay_folder(name: str) -> Path:
    """Where it lies, for this version of Python."""
    return cache_dir() / "overlays" / f"{name}-python{sys.version_info.major}.{sys.version_info.minor}"
