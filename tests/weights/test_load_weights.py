"""Files as they lie on users' disks: our own checkpoints, and every published one that we have."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch

from facekit.detector import Detector
from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.protocol import at_scale
from facekit.results.wider import read_predictions
from facekit.targets.pytorch import PyTorchBackend
from facekit.template import TEMPLATES_DIR, Template, load_template
from facekit.weights.checkpoint import Checkpoint, load_state, new_meta, save_checkpoint
from facekit.weights.load import load_weights


class Published(NamedTuple):
    template: str
    weights: str
    reference: str  # what they find in their makers' own runtime
    scale: str = "template"


OPENVINO = ("face-detection-0200", "face-detection-0202", "face-detection-0204", "face-detection-0205")
PUBLISHED = (
    *(Published(name, f"openvino/{name}.xml", f"ir{name[-4:]}") for name in OPENVINO),
    Published("tiny-ssd-300", "openvino/face-detection-retail-0005.xml", "ir0005"),
    Published("yunet-n", "yunet/yunet_n.pth", "yunet-n-orig"),
    Published("yunet-n", "yunet/yunet_n.pth", "yunet-n-640", "max:640"),
    Published("yunet-s", "yunet/yunet_s.pth", "yunet-s-orig"),
    Published("yunet-s", "yunet/yunet_s.pth", "yunet-s-640", "max:640"),
    Published("ultralight-slim-320", "ultralight/version-slim-320.pth", "ultra-slim-320"),
    Published("ultralight-slim-640", "ultralight/version-slim-640.pth", "ultra-slim-640"),
    Published("ultralight-rfb-320", "ultralight/version-RFB-320.pth", "ultra-RFB-320"),
    Published("ultralight-rfb-640", "ultralight/version-RFB-640.pth", "ultra-RFB-640"),
    Published("retinaface-mobilenetv1-0.25-p3", "retinaface/mobilenet0.25_p3.pth", "retina-B"),
)
TORCH = sorted({(case.template, case.weights) for case in PUBLISHED if case.weights.endswith(".pth")})
# Wide, flat and tall, with three to eleven faces each; few of their sides divide by 8.
PICTURES = (
    "12--Group/12_Group_Group_12_Group_Group_12_84",
    "17--Ceremony/17_Ceremony_Ceremony_17_852",
    "2--Demonstration/2_Demonstration_Demonstrators_2_488",
)


def bundled(name: str) -> Template:
    return load_template(TEMPLATES_DIR / name / "template.yaml")


@pytest.fixture(scope="module")
def ssd() -> Template:
    return bundled("face-detection-0200")


@pytest.fixture(scope="module")
def yunet() -> Template:
    return bundled("yunet-n")


@pytest.fixture(scope="module")
def weights(shared_dir: Path) -> Path:
    return shared_dir / "weights"


def complaint(path: Path, template: Template) -> str:
    with pytest.raises(FacekitError) as caught:
        load_weights(path, template)
    assert str(path) in str(caught.value)
    return str(caught.value)


class TestOwn:
    def test_comes_back_with_its_epoch(self, tmp_path: Path, ssd: Template) -> None:
        network = build_model(ssd)
        save_checkpoint(tmp_path / "a.pth", Checkpoint(new_meta(ssd, 5, 50), network.state_dict(), {"state": {}}))
        checkpoint = load_weights(tmp_path / "a.pth", ssd)
        assert checkpoint.epoch == 5
        assert checkpoint.optimizer == {"state": {}}

    @pytest.mark.parametrize(
        ("made_for", "opened_as", "difference"),
        [
            ("face-detection-0204", "face-detection-0200", "prior_sizes_wh"),
            ("ultralight-slim-320", "ultralight-rfb-320", "the weights don't fit"),
            ("yunet-s", "yunet-n", "the weights don't fit"),
            ("retinaface-mobilenetv3-small", "retinaface-mobilenetv2-0.1", "the weights don't fit"),
            ("tiny-ssd-300", "face-detection-0207", "prior_sizes_wh"),
            ("scrfd-0.5g", "retinaface-mobilenetv1-0.25-p3", "architecture"),
        ],
    )
    def test_of_another_template(self, tmp_path: Path, made_for: str, opened_as: str, difference: str) -> None:
        """Refused where the meaning differs when it is read, where only the tensors do when the network is filled."""
        other = bundled(made_for)
        state = build_model(other).state_dict()
        save_checkpoint(tmp_path / "a.pth", Checkpoint(new_meta(other, 5, 50), state))
        with pytest.raises(FacekitError, match=difference):
            PyTorchBackend.from_file(tmp_path / "a.pth", bundled(opened_as), "cpu")

    def test_missing(self, tmp_path: Path, ssd: Template) -> None:
        assert "no such file" in complaint(tmp_path / "a.pth", ssd)


class TestEveryPublishedFile:
    @pytest.mark.parametrize(("name", "file"), TORCH)
    def test_every_tensor_is_taken_as_it_is(self, weights: Path, name: str, file: str) -> None:
        template = bundled(name)
        content = torch.load(weights / file, map_location="cpu", weights_only=True)
        theirs = content.get("state_dict", content)
        checkpoint = load_weights(weights / file, template)
        assert checkpoint.epoch == template.training.epochs
        assert checkpoint.optimizer is None
        assert checkpoint.meta["batch_norm_folded"] is False
        assert checkpoint.state_dict.keys() == theirs.keys()
        assert all(torch.equal(checkpoint.state_dict[key], theirs[key]) for key in theirs)

    def test_names_of_parallel_training(self, weights: Path, tmp_path: Path) -> None:
        template = bundled("retinaface-mobilenetv1-0.25-p3")
        theirs = torch.load(weights / "retinaface/mobilenet0.25_p3.pth", map_location="cpu", weights_only=True)
        torch.save({f"module.{key}": tensor for key, tensor in theirs.items()}, tmp_path / "parallel.pth")
        checkpoint = load_weights(tmp_path / "parallel.pth", template)
        assert checkpoint.state_dict.keys() == theirs.keys()
        assert all(torch.equal(checkpoint.state_dict[key], theirs[key]) for key in theirs)

    @pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: f"{case.template}-{case.scale}")
    def test_finds_what_its_makers_runtime_finds(self, shared_dir: Path, weights: Path, case: Published) -> None:
        wider = shared_dir / "data" / "widerface"
        theirs = read_predictions(wider / "reference_detections" / f"{case.reference}.npz")
        detector = imported(weights / case.weights, at_scale(bundled(case.template), case.scale))
        for name in PICTURES:
            picture: Any = cv2.imread(str(wider / "WIDER_val" / "images" / f"{name}.jpg"))
            found = detector.detect(picture)
            ours = np.column_stack([found.boxes_xyxy, found.scores])
            reference = theirs[name].copy()
            reference[:, 2:4] += reference[:, :2]
            sure = reference[reference[:, 4] > 0.3]
            assert len(sure) >= 3
            assert unmatched(sure, ours) == []
            # The references begin at score 0.25, so that ours over 0.3 must all be among them.
            assert unmatched(ours[ours[:, 4] > 0.3], reference) == []


def imported(weights: Path, template: Template) -> Detector:
    network = build_model(template)
    load_state(network, load_weights(weights, template).state_dict, str(weights))
    return Detector(PyTorchBackend(network.eval(), template), template)


def unmatched(wanted: np.ndarray, given: np.ndarray) -> list[list[float]]:
    """Rows x1, y1, x2, y2, score without a counterpart: IoU over 0.98, score within 0.005."""
    assert len(given)
    missing = []
    for row in wanted:
        sides = np.minimum(given[:, 2:4], row[2:4]) - np.maximum(given[:, :2], row[:2])
        shared = sides.clip(0).prod(axis=1)
        areas = (given[:, 2:4] - given[:, :2]).prod(axis=1)
        iou = shared / (areas + (row[2:4] - row[:2]).prod() - shared)
        if not ((iou > 0.98) & (np.abs(given[:, 4] - row[4]) <= 0.005)).any():
            missing.append(row.tolist())
    return missing


class TestPublishedFilesOfOthers:
    @pytest.mark.parametrize(
        ("file", "owner", "opened_as"),
        [
            ("yunet/yunet_n.pth", "yunet-n", "face-detection-0200"),
            ("yunet/yunet_s.pth", "yunet-s", "yunet-n"),
            ("ultralight/version-slim-320.pth", "ultralight-slim-320", "ultralight-slim-640"),
            ("ultralight/version-RFB-640.pth", "ultralight-rfb-640", "ultralight-rfb-320"),
        ],
    )
    def test_the_owner_is_named(self, weights: Path, file: str, owner: str, opened_as: str) -> None:
        """Some would fit tensor by tensor and mean other priors."""
        text = complaint(weights / file, bundled(opened_as))
        assert f"published weights of {owner!r}, not of {opened_as!r}" in text
        assert f"`template={owner}" in text

    def test_cut_off(self, weights: Path, tmp_path: Path, yunet: Template) -> None:
        data = (weights / "yunet" / "yunet_n.pth").read_bytes()
        (tmp_path / "a.pth").write_bytes(data[:-1000])
        assert "cut off" in complaint(tmp_path / "a.pth", yunet)


class TestImageNetBackboneAlone:
    FILE = Path("retinaface") / "mobilenetV1X0.25_pretrain.tar"

    @pytest.mark.parametrize("name", ["retinaface-mobilenetv1-0.25", "retinaface-mobilenetv1-0.25-p3"])
    def test_starts_a_training(self, weights: Path, name: str) -> None:
        checkpoint = load_weights(weights / self.FILE, bundled(name))
        assert checkpoint.epoch == 0  # nothing is learnt yet of finding faces
        theirs = torch.load(weights / self.FILE, map_location="cpu", weights_only=True)["state_dict"]
        # The first convolution and its norm are turned to another input; the classifier has no place.
        kept = [key for key in theirs if not key.startswith(("module.stage1.0.", "module.fc."))]
        assert len(kept) == 26 * 6  # convolutions, each with the five tensors of its norm
        ours = {key: checkpoint.state_dict[key.replace("module.", "body.", 1)] for key in kept}
        assert all(torch.equal(ours[key], theirs[key]) for key in kept)
        assert not torch.equal(checkpoint.state_dict["body.stage1.0.0.weight"], theirs["module.stage1.0.0.weight"])

    def test_of_another_backbone(self, weights: Path) -> None:
        text = complaint(weights / self.FILE, bundled("retinaface-mobilenetv3-small"))
        assert "(for the backbone of retinaface-mobilenetv3-small): the weights don't fit" in text
        assert "unexpected" in text and "stage3.1.4.running_var" in text

    @pytest.mark.parametrize("name", ["scrfd-0.5g", "ultralight-slim-320", "face-detection-0205"])
    def test_of_another_architecture(self, weights: Path, name: str) -> None:
        assert f"(for template {name}): the weights don't fit" in complaint(weights / self.FILE, bundled(name))
