"""What to say of weights that aren't there."""

from __future__ import annotations

from pathlib import Path

from facekit.base.nearest import did_you_mean_path
from facekit.errors import FacekitError
from facekit.template import known_templates


def missing_weights(weights: Path) -> FacekitError:
    """Of a file that is not there, with what was likely meant."""
    if str(weights) in known_templates():
        return FacekitError(
            f"{weights}: there are no such weights, only a template of that name. "
            f"`facekit instantiate {weights} FOLDER` fetches its weights: give FOLDER/snapshot.pth."
        )
    if weights.is_dir() and weights.suffix.lower() == ".mlpackage":
        return FacekitError(
            f"{weights}: Core ML runs on Apple's systems alone. Give the model.onnx that `facekit export` writes of "
            f"the same weights."
        )
    if weights.is_dir():
        return FacekitError(f"{weights}: a folder, where a file of weights is expected. Give the file in it.")
    return FacekitError(f"{weights}: there are no such weights.{did_you_mean_path(weights) or ' Check the path.'}")
