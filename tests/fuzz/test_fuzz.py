"""Ten seconds of what tools/fuzz.py does for a night: whatever is read, the answer is a value or one clear line."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.records.run import read_record
from facekit.results.wider import read_predictions
from facekit.template import TEMPLATES_DIR, find_template, load_template
from facekit.weights.ir_file import check_ir_files
from facekit.weights.load import load_weights
from facekit.weights.onnx_file import check_onnx_file
from tests.fuzz.mutations import YAML_VALUES, mutated_bytes, mutated_content, mutated_json, mutated_text, torch_bytes
from tests.fuzz.samples import checkpoint_content, write_run_record

TEMPLATE = find_template("yunet-n")
ONNX = TEMPLATES_DIR / "yunet-n" / "facekit.onnx"

short = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
seeds = st.integers(0, 2**32)


def refused_or_read(read: Callable[[Path], Any], path: Path) -> Any:
    """What was read; None where it was refused in words that name the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read(path)
        except FacekitError as error:
            assert str(path.parent) in str(error)
            assert len(str(error)) < 20_000
            return None


@given(seeds)
@short
def test_templates(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "template.yaml"
    text = mutated_text(Random(seed), TEMPLATE.read_text(encoding="utf-8"), YAML_VALUES)
    path.write_text(text, encoding="utf-8", errors="replace")
    template = refused_or_read(load_template, path)
    if template is not None:
        refused_or_read(lambda _: build_model(template), path)


@given(seeds)
@short
def test_checkpoints(tmp_path: Path, seed: int) -> None:
    random, template = Random(seed), load_template(TEMPLATE)
    content = checkpoint_content()
    state = content["state_dict"]
    content = random.choice([content, state, {"model": state, "epoch": 3}])
    path = tmp_path / "a.pth"
    if random.random() < 0.7:
        path.write_bytes(torch_bytes(mutated_content(random, content)))
    else:
        path.write_bytes(mutated_bytes(random, torch_bytes(content)))
    checkpoint = refused_or_read(lambda path: load_weights(path, template), path)
    if checkpoint is not None:
        assert all(tensor.isfinite().all() for tensor in checkpoint.state_dict.values())
        assert 0 <= checkpoint.epoch <= 10_000_000


@given(seeds)
@short
def test_onnx(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(mutated_bytes(Random(seed), ONNX.read_bytes()))
    refused_or_read(check_onnx_file, path)


IR = """<?xml version="1.0"?>
<net name="a" version="11"><layers>
<layer id="0" name="c" type="Const" version="opset1">
<data element_type="f32" shape="2, 3" offset="0" size="24"/>
<output><port id="0" precision="FP32"><dim>2</dim><dim>3</dim></port></output>
</layer></layers><rt_info><facekit><template value="yunet-n"/></facekit></rt_info></net>
"""


@given(seeds)
@short
def test_ir(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    (tmp_path / "a.xml").write_text(mutated_text(random, IR, ["-1", "9" * 50, "1000000000", "x"]), errors="replace")
    (tmp_path / "a.bin").write_bytes(bytes(random.choice([0, 23, 24, 100])))
    refused_or_read(check_ir_files, tmp_path / "a.xml")


@pytest.fixture(scope="module")
def record_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("record")
    return write_run_record(folder, folder).read_text()


@given(seed=seeds)
@short
def test_records(tmp_path: Path, record_text: str, seed: int) -> None:
    path = tmp_path / "run.json"
    path.write_text(mutated_json(Random(seed), record_text), encoding="utf-8", errors="replace")
    record = refused_or_read(read_record, path)
    if record is not None:
        refused_or_read(record.read_template, path)
        assert dataclasses.is_dataclass(record)


@given(seeds)
@short
def test_predictions(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, names=["a/b", "a/c"], offsets=[0, 1, 3], xywhs=np.arange(15.0).reshape(3, 5))
    path.write_bytes(mutated_bytes(random, path.read_bytes()))
    refused_or_read(read_predictions, path)
    folder = tmp_path / "results" / "e"
    folder.mkdir(parents=True, exist_ok=True)
    text = mutated_text(random, "a\n2\n1 2 3 4 0.5\n5 6 7 8 0.25\n", ["-1", "nan", "1e999", "9" * 5000, "x"])
    (folder / "a.txt").write_text(text, encoding="utf-8", errors="replace")
    refused_or_read(read_predictions, tmp_path / "results")
