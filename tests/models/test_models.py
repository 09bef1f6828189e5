from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from facekit.errors import FacekitError
from facekit.models import MODELS, build_model, check_sizes
from facekit.models.detector_network import DetectorNetwork
from facekit.models.layers import level_rows
from facekit.structures import RawOutputs
from facekit.template import TEMPLATES_DIR, Template, find_template, load_template

TEMPLATES = sorted(path.parent.name for path in TEMPLATES_DIR.glob("*/template.yaml"))


class Facts(NamedTuple):
    """What a network must return, written down apart from its code."""

    strides: tuple[int, ...]
    priors_a_cell: tuple[int, ...]
    classes: int
    has_objectness: bool = False
    has_landmarks: bool = False


SSD_FACTS = Facts((16, 32), (4, 5), 2)
ULTRALIGHT_FACTS = Facts((8, 16, 32, 64), (3, 2, 2, 3), 2)
RETINAFACE_FACTS = Facts((16, 32), (2, 2), 2, has_landmarks=True)
YUNET_FACTS = Facts((8, 16, 32), (1, 1, 1), 1, has_objectness=True, has_landmarks=True)
FACTS = {
    "face-detection-0200": SSD_FACTS,
    "face-detection-0202": SSD_FACTS,
    "face-detection-0204": SSD_FACTS,
    "face-detection-0205": Facts((8, 16, 32, 64, 128), (1,) * 5, 1, has_objectness=True),
    "face-detection-0206": Facts((4, 8, 16, 32, 64), (1,) * 5, 1, has_objectness=True),
    "face-detection-0207": SSD_FACTS,
    "retinaface-efficientnet-b0": RETINAFACE_FACTS,
    "retinaface-mobilenetv1-0.25": RETINAFACE_FACTS,
    "retinaface-mobilenetv1-0.25-p3": Facts((8, 16, 32), (2, 2, 2), 2, has_landmarks=True),
    "retinaface-mobilenetv2-0.1": RETINAFACE_FACTS,
    "retinaface-mobilenetv3-small": RETINAFACE_FACTS,
    "scrfd-0.5g": Facts((8, 16, 32), (2, 2, 2), 1, has_landmarks=True),
    "tiny-ssd-300": Facts((16,), (9,), 2),
    "ultralight-rfb-320": ULTRALIGHT_FACTS,
    "ultralight-rfb-640": ULTRALIGHT_FACTS,
    "ultralight-slim-320": ULTRALIGHT_FACTS,
    "ultralight-slim-640": ULTRALIGHT_FACTS,
    "yunet-n": YUNET_FACTS,
    "yunet-s": YUNET_FACTS,
}
# Their protocols pad pictures to multiples of the coarsest stride: they need not take anything else.
PADDED = ("scrfd-0.5g", "yunet-n", "yunet-s")
# At the first step nearly no prior may say face: there are thousands of background ones.
CALM = ("face-detection-0205", "face-detection-0206", *PADDED)


def template_of(name: str) -> Template:
    return load_template(find_template(name))


def seeded(name: str) -> DetectorNetwork:
    torch.manual_seed(0)
    return build_model(template_of(name))


def priors_at(facts: Facts, size_hw: tuple[int, int]) -> int:
    """Cells are rounded up."""
    height, width = size_hw
    return sum(
        math.ceil(height / stride) * math.ceil(width / stride) * priors
        for stride, priors in zip(facts.strides, facts.priors_a_cell, strict=True)
    )


def check_shapes(raw: RawOutputs, facts: Facts, batch: int, size_hw: tuple[int, int]) -> None:
    priors = priors_at(facts, size_hw)
    assert raw.class_logits.shape == (batch, priors, facts.classes)
    assert raw.box_deltas.shape == (batch, priors, 4)
    if facts.has_objectness:
        assert raw.objectness_logits is not None and raw.objectness_logits.shape == (batch, priors)
    else:
        assert raw.objectness_logits is None
    if facts.has_landmarks:
        assert raw.landmark_deltas is not None and raw.landmark_deltas.shape == (batch, priors, 10)
    else:
        assert raw.landmark_deltas is None


class TestBuild:
    def test_the_facts_name_every_template(self) -> None:
        assert sorted(FACTS) == TEMPLATES

    def test_every_architecture_has_a_template(self) -> None:
        assert {template_of(name).model.architecture for name in TEMPLATES} == set(MODELS)

    def test_unknown_architecture(self) -> None:
        template = template_of("yunet-n")
        unknown = dataclasses.replace(template, model=dataclasses.replace(template.model, architecture="yunett"))
        with pytest.raises(FacekitError, match=r":6: model\.architecture: 'yunett'.*did you mean 'yunet'"):
            build_model(unknown)

    def test_a_backbone_without_taps_for_three_levels(self) -> None:
        template = template_of("retinaface-mobilenetv3-small")
        priors = template_of("retinaface-mobilenetv1-0.25-p3").model.prior_sizes_wh
        three = dataclasses.replace(template, model=dataclasses.replace(template.model, prior_sizes_wh=priors))
        with pytest.raises(
            (FacekitError, ValueError), match=r"levels of (priors, got 3|strides \[8, 16, 32\], got \[16, 32\])"
        ):
            build_model(three)


@pytest.mark.parametrize("name", TEMPLATES)
class TestEveryTemplate:
    def test_one_row_a_prior(self, name: str) -> None:
        network, facts = seeded(name).eval(), FACTS[name]
        head = network.head
        assert (head.strides, head.priors_a_cell) == (facts.strides, facts.priors_a_cell)
        assert (head.has_objectness, head.has_landmarks) == (facts.has_objectness, facts.has_landmarks)
        assert head.scoring == ("softmax" if facts.classes == 2 else "sigmoid")
        # The second size: no stride divides it, sides are odd after the first halving too, and the coarsest level may
        # have a single cell.
        sizes = [(2, (64, 96)), *([] if name in PADDED else [(1, (33, 85))])]
        for batch, size_hw in sizes:
            with torch.no_grad():
                raw = network(torch.rand(batch, 3, *size_hw))
            assert isinstance(raw, RawOutputs)
            check_shapes(raw, facts, batch, size_hw)
            decoded = head.decode(head.activate(raw), head.priors(size_hw).tensors())
            assert decoded.boxes_xyxy.shape == raw.box_deltas.shape
            assert all(tensor.isfinite().all() for tensor in decoded if tensor is not None)
            assert decoded.scores.min() >= 0 and decoded.scores.max() <= 1

    def test_rows_lie_where_their_priors_are(self, name: str) -> None:
        """In training, a bright spot changes the finest level's outputs most about its own place, row by row."""
        network = seeded(name).train()  # in evaluation, norms that have seen nothing let the spot fade away
        pictures = torch.zeros(2, 3, 128, 256)
        y, x = 32, 192  # far from where rows and columns swapped would put it
        pictures[1, :, y : y + 16, x : x + 16] = 255 if template_of(name).input.std[0] == 1 else 5
        with torch.no_grad():
            raw = network(pictures)
        check_shapes(raw, FACTS[name], 2, (128, 256))
        dark, spot = raw.box_deltas
        change = (spot - dark).square().sum(dim=1).sqrt()
        priors = network.head.priors((128, 256)).tensors()
        finest = priors.strides == FACTS[name].strides[0]
        weight = change[finest].square() / change[finest].square().sum()
        centre = (priors.cxcywh[finest, :2] * weight[:, None]).sum(dim=0)
        assert (centre - torch.tensor([x + 8, y + 8])).abs().max() < 48, centre

    def test_every_parameter_reaches_an_output(self, name: str) -> None:
        # A group norm makes a level of one cell zero: the coarsest must have more.
        side = 256 if name == "face-detection-0205" else 64
        network = seeded(name).eval()
        raw = network(torch.rand(2, 3, side, side) * (255 if template_of(name).input.std[0] == 1 else 1))
        torch.manual_seed(1)
        sum((tensor * torch.randn_like(tensor)).sum() for tensor in raw if tensor is not None).backward()
        idle = [key for key, each in network.named_parameters() if each.grad is None or not each.grad.any()]
        assert idle == (["loss_log_variances"] if template_of(name).model.architecture == "ssd" else [])


@pytest.mark.parametrize("name", CALM)
def test_starts_calm(name: str) -> None:
    network = seeded(name).eval()
    with torch.no_grad():
        activated = network.head.activate(network(torch.zeros(1, 3, 64, 64)))
    assert activated.class_probabilities.max() < 0.05
    if name.startswith("yunet"):
        assert activated.objectness.max() < 0.05


@pytest.mark.parametrize("name", ["face-detection-0205", "face-detection-0206"])
def test_decoded_boxes_end_at_the_border(name: str) -> None:
    network = seeded(name)
    priors = network.head.priors((40, 72)).tensors()
    rows = len(priors.cxcywh)
    huge = RawOutputs(torch.zeros(1, rows, 1), torch.full((1, rows, 4), 20.0), torch.zeros(1, rows))
    boxes = network.head.decode(network.head.activate(huge), priors).boxes_xyxy
    assert boxes.min() == 0
    assert boxes[..., 0::2].max() == 72
    assert boxes[..., 1::2].max() == 40


def test_fcos_distances_are_positive() -> None:
    network = seeded("face-detection-0205").eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 64)).box_deltas.min() > 0


def test_scores_are_class_times_centre_ness() -> None:
    head = seeded("face-detection-0205").head
    rows = len(head.priors((8, 8)).tensors().cxcywh)
    raw = RawOutputs(torch.zeros(1, rows, 1), torch.ones(1, rows, 4), torch.full((1, rows), math.log(3)))
    scores = head.decode(head.activate(raw), head.priors((8, 8)).tensors()).scores
    torch.testing.assert_close(scores, torch.full((1, rows), 0.5 * 0.75))


def test_level_rows_go_level_by_level_cell_by_cell_prior_by_prior() -> None:
    # Channel p * 2 + c of cell (y, x) of a level of 2 x 3 cells and 2 priors holds its own address.
    y, x = torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij")
    first = torch.stack([1000 * y + 100 * x + channel for channel in range(4)])[None].float()
    second = torch.tensor([7.0, 8.0]).view(1, 2, 1, 1)
    expected = [
        [1000 * y + 100 * x + 2 * prior + column for column in range(2)]
        for y in range(2)
        for x in range(3)
        for prior in range(2)
    ]
    assert level_rows([first, second], 2)[0].tolist() == [*expected, [7, 8]]


class TestKeysThatDoNotFit:
    """What the template asks for and the network has no place for, with its line."""

    def changed(self, tmp_path: Path, name: str, old: str, new: str) -> tuple[Template, Path]:
        text = find_template(name).read_text(encoding="utf-8")
        assert old in text
        path = tmp_path / "template.yaml"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return load_template(path), path

    @pytest.mark.parametrize(
        ("name", "old", "new", "expected"),
        [
            ("yunet-n", "[[[8, 8]], ", "[", "model.head.strides: 3 levels, but model.prior_sizes_wh has 2 lists"),
            ("yunet-n", "[[8, 8]]", "[[8, 8], [9, 9]]", ":8: model.prior_sizes_wh: yunet has one prior a level"),
            ("face-detection-0206", "[[32, 32]]", "[[32, 32], [9, 9]]", "prior_sizes_wh: atss has one prior a level"),
            ("yunet-n", "size_multiple: 32", "size_multiple: 7", "evaluation.size_multiple: expected a multiple of 32"),
            ("yunet-n", "64, 64, 64, 64, 64]", "64, 64, 64, 64, 32]", "model.options: stage_channels: the last three"),
            ("yunet-n", "[16, 64, 64, 64, 64, 64]", "[]", "model.options.stage_channels: expected 6 to 6 entries"),
            ("yunet-n", "[16, 64", "[0, 64", "model.options.stage_channels[0]: expected 1 to 2048, got 0"),
            ("yunet-n", "shared_units: 1", "shared_units: 1000000000", "model.options.shared_units: expected 0 to 16"),
            ("yunet-n", "strides: [8, 16, 32]", "strides: [8, 16, 64]", ":10: model.head.strides: yunet has levels of"),
            ("yunet-n", "scoring: sigmoid", "scoring: softmax", ":13: model.head.scoring: yunet is scored by sigmoid"),
            ("yunet-n", "has_objectness: true", "has_objectness: false", ":15: model.head.has_objectness: yunet has"),
            ("face-detection-0200", "scoring: softmax", "has_landmarks: true\n    scoring: softmax", "has no land"),
            ("yunet-n", "architecture: yunet", "architecture: yolo", ":6: model.architecture: 'yolo' is unknown; did"),
            ("yunet-n", "[[8, 8]]", "[[8, 8], [8, 8], [8, 8]]", "yunet has one prior a level, got [3, 1, 1]"),
        ],
    )  # fmt: skip
    def test_refused(self, tmp_path: Path, name: str, old: str, new: str, expected: str) -> None:
        with pytest.raises(FacekitError) as caught:
            build_model(self.changed(tmp_path, name, old, new)[0])
        assert str(caught.value).startswith(f"{tmp_path / 'template.yaml'}:")
        assert expected in str(caught.value)

    def test_size_that_evaluation_pads_and_training_does_not(self, tmp_path: Path) -> None:
        template, path = self.changed(tmp_path, "yunet-n", "size_hw: [640, 640]", "size_hw: [650, 640]")
        network = build_model(template)
        line = path.read_text().splitlines().index("  size_hw: [650, 640]") + 1
        with pytest.raises(FacekitError, match=rf"{path}:{line}: input.size_hw: expected multiples of 32 for yunet"):
            check_sizes(network, template, for_training=True)

    def test_too_many_priors(self, tmp_path: Path) -> None:
        template, path = self.changed(tmp_path, "face-detection-0200", "size_hw: [256, 256]", "size_hw: [4096, 8192]")
        many = ((template.model.prior_sizes_wh[0] * 9)[:32], template.model.prior_sizes_wh[1])
        template = dataclasses.replace(template, model=dataclasses.replace(template.model, prior_sizes_wh=many))
        with pytest.raises(FacekitError, match=rf"{path}:9: model.prior_sizes_wh: \d+ priors for an input"):
            build_model(template)
