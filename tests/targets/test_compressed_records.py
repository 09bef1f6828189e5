"""What a checkpoint says of its compression is NNCF's to read, and no more to be trusted than the rest."""

from __future__ import annotations

from typing import Any

import pytest

from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.targets.nncf_ import restore_compressed
from facekit.template import find_template, load_template
from facekit.weights.checkpoint import Checkpoint, new_meta

BAD: list[Any] = [
    "int8", [], {}, {"a": 1}, {"compression_state": [1]}, {"compression_state": None}, {"trace_parameters": 7},
    {"compression_state": {"commands": [{"size": [1 << 20, 1 << 20]}]}}, {"compression_state": {"x": [1 << 40]}},
]  # fmt: skip


@pytest.mark.parametrize("description", BAD, ids=str)
def test_refused(description: Any) -> None:
    template = load_template(find_template("yunet-n"))
    meta = new_meta(template, 1, 1) | {"compression": {"nncf": description}}
    with pytest.raises(FacekitError, match=r"^a\.pth: its description of the compression ") as caught:
        restore_compressed(build_model(template), Checkpoint(meta, {}), "a.pth")
    assert "\n" not in str(caught.value)
