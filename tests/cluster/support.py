"""Archives and tables of pictures, and jobs that a worker can be given."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np


def jpeg(seed: int = 0, size: int = 48) -> bytes:
    """A small picture, another one for each seed."""
    image = np.random.default_rng(seed).integers(0, 255, (size, size + 8 * (seed % 2), 3), dtype=np.uint8)
    return bytes(cv2.imencode(".jpg", image)[1].tobytes())


def tar_of(members: list[tuple[str, bytes]], *others: tarfile.TarInfo) -> bytes:
    """A tar of files, and behind them of members without content, such as links."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in others:
            archive.addfile(info)
    return out.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)
