"""What an export that differs is refused with."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.structures import Activated
from facekit.targets.pytorch import PyTorchBackend
from facekit.targets.writing.verify import FLOAT, HALF, Tolerance, verify_export
from facekit.template import find_template, load_template
from tests.targets.support import short_network

PICTURES = {"noise": np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)}


class Moved(PyTorchBackend):
    """Its scores are off, or no numbers."""

    add = 0.0

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated:
        said = super().__call__(images_bgr)
        assert isinstance(said, Activated)
        return said._replace(class_probabilities=said.class_probabilities + self.add)


@pytest.mark.parametrize("add", [0.5, np.nan])
@pytest.mark.parametrize(
    ("tolerance", "remedy"),
    [(FLOAT, "please report it with the weights"), (HALF, "Float16 costs this detector that much: leave `half` out")],
)
def test_the_remedy_is_of_what_was_asked_for(tolerance: Tolerance, remedy: str, add: float) -> None:
    template = load_template(find_template("yunet-s"))
    network = short_network(template)
    reference, moved = PyTorchBackend(network, template), Moved(network, template)
    verify_export("model.onnx", moved, reference, template, PICTURES, tolerance)
    moved.add = add
    with pytest.raises(FacekitError, match=rf"^model.onnx: .* \(noise\).*{remedy}"):
        verify_export("model.onnx", moved, reference, template, PICTURES, tolerance)
