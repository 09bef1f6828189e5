from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from facekit.labels.formats import read_labels
from facekit.structures import Detections
from tools import verify_gpu
from tools.gpu_comparison import count_pairs, relative
from tools.verify_gpu import Machine, Row, copy_to, verdict


def rehearse(*args: str) -> Result:
    return CliRunner().invoke(verify_gpu.main, args)


def test_does_nothing_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = rehearse("--seconds", "1")
    assert done.exit_code == 3
    assert done.output.startswith("NOT RUN") and "passed" not in done.output


def test_rehearsal_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as --gpu-num 0 sets it, but not for the tests after this one
    args = ("--device", "cpu", "--architectures", "yunet", "--precisions", "fp32,fp16", "--size", "64", "--no-export")
    done = rehearse(*args, "--batch-size", "4", "--seconds", "1", "--workers", "0")
    assert done.exit_code == 0, done.output
    assert "REHEARSAL" in done.output and "all bars met" in done.output
    (row,) = (text for text in done.output.splitlines() if text.startswith("| yunet"))
    assert "bit-equal" in row


class TestComparison:
    """What differs is seen."""

    @pytest.fixture
    def row(self) -> Row:
        return Row("yunet", "yunet-n")

    def check_network(self, row: Row, folder: Path, drawn_dir: Path) -> None:
        template = verify_gpu.write_template(row, folder / "template.yaml", 96)
        weights = verify_gpu.FACES_KNOWN["yunet"]
        machine = Machine(torch.device("cpu"), drawn_dir, 0, 4, time.monotonic() + 60)
        pictures = read_labels(drawn_dir / "annotations.json", drawn_dir)
        verify_gpu.check_network(row, machine, template, weights, pictures, ["fp32", "bf16"])

    def test_of_equal_networks(self, row: Row, tmp_path: Path, drawn_dir: Path) -> None:
        self.check_network(row, tmp_path, drawn_dir)
        assert not row.failed
        assert set(row.checks) == {"outputs", "losses", "gradients", "losses bfloat16"}

    def test_of_a_network_that_differs(
        self, row: Row, tmp_path: Path, drawn_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copies = []

        def spoil_second(device: torch.device, network: nn.Module) -> nn.Module:
            copies.append(copied := copy_to(device, network))
            if len(copies) == 2:
                with torch.no_grad():
                    next(copied.parameters()).neg_()
            return copied

        monkeypatch.setattr(verify_gpu, "copy_to", spoil_second)
        self.check_network(row, tmp_path, drawn_dir)
        assert [text.partition(":")[0] for text in row.failed] == ["outputs", "losses", "gradients"]

    def test_pairs_of_faces(self) -> None:
        boxes = np.array([[0, 0, 10, 10], [50, 50, 70, 70]], np.float32)
        faces = Detections(boxes, np.array([0.9, 0.5], np.float32))
        moved = Detections(boxes + np.float32([[0, 0, 0, 0], [2, 0, 2, 0]]), faces.scores)
        surer = Detections(boxes, np.array([0.92, 0.5], np.float32))
        none = Detections(boxes[:0], faces.scores[:0])
        hardly_seen = Detections(boxes[:1], np.array([verify_gpu.SCORE_THRESHOLD + 1e-3], np.float32))
        assert [count_pairs(found, faces) for found in (faces, moved, surer, none)] == [2, 1, 1, 0]
        assert count_pairs(none, hardly_seen) == 1

    def test_relative_difference(self) -> None:
        wanted = torch.tensor([1.0, -4.0])
        assert relative(wanted, wanted) == 0
        assert relative(wanted + 0.04, wanted) == pytest.approx(0.01)


def test_verdict_names_failures_and_cuts(capsys: pytest.CaptureFixture[str]) -> None:
    good, cut, bad = Row("ssd", "a"), Row("fcos", "b"), Row("atss", "c")
    cut.cut.append("export")
    bad.check("losses", False, "3e-01")
    assert [verdict(rows, 1, "cuda") for rows in ([good], [good, cut], [good, cut, bad])] == [0, 3, 1]
    said = capsys.readouterr().out
    assert "CUT     fcos: export did not run" in said and "FAILED  atss: losses: 3e-01" in said
