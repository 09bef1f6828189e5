"""facekit: pick a face detector template, fine-tune it, measure it, export it, compress it, watch it."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.5.0"

if TYPE_CHECKING:
    from facekit.detector import Detector

__all__ = ["Detector", "__version__"]


def __getattr__(name: str) -> object:
    # Lazy, so that `import facekit` and `facekit --help` don't pay for torch.
    if name == "Detector":
        from facekit.extras import optional_packages

        with optional_packages():
            from facekit.detector import Detector
        return Detector
    raise AttributeError(f"module 'facekit' has no attribute {name!r}")
