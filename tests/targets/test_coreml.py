"""Core ML's package is written here and run on Apple's systems alone: what can be looked at is its description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from facekit.targets.reading.about import KEY, parse_about
from facekit.targets.table import TARGETS
from facekit.targets.writing.export import check_places
from facekit.template import find_template, load_template
from tests.targets.support import draft_of, short_network


def test_package_describes_itself(tmp_path: Path) -> None:
    coremltools: Any = pytest.importorskip("coremltools")
    from facekit.targets.coreml import write

    template = load_template(find_template("yunet-s"))
    draft = draft_of(short_network(template), template, (96, 160))
    path = TARGETS["coreml"].paths(tmp_path, template.name)[0]
    write(draft, path)
    assert path.name == "model.mlpackage" and path.is_dir()
    check_places([TARGETS["coreml"]], tmp_path, template)  # of the next export
    described = coremltools.models.MLModel(str(path), skip_model_load=True).get_spec().description
    assert [value.name for value in described.input] == ["image"]
    assert list(described.input[0].type.multiArrayType.shape) == [1, 3, 96, 160]
    assert [value.name for value in described.output] == draft.graph.output_names
    said = parse_about(described.metadata.userDefined[KEY], path)
    assert said == draft.about and said is not None and said.size_hw == (96, 160)
    assert described.metadata.license == draft.about.licence


def test_it_is_said_not_to_run_here() -> None:
    assert not TARGETS["coreml"].runs and not TARGETS["coreml"].any_size
