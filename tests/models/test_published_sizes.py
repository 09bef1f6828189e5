"""What the makers' papers, model cards and tables say of their networks' sizes."""

from __future__ import annotations

from typing import Any

import pytest

from facekit.models import build_model
from facekit.ops.complexity import count_macs, count_parameters, layer_costs
from facekit.template import find_template, load_template

# Millions of parameters and GFLOPs at a square input.
OPENVINO = {
    "face-detection-0200": (256, 1.83, 0.82),
    "face-detection-0202": (384, 1.83, 1.84),
    "face-detection-0204": (448, 1.83, 2.52),
    "face-detection-0205": (416, 2.02, 2.94),
    "face-detection-0206": (640, 63.79, 340.06),
    "face-detection-0207": (448, 0.81, 1.04),
    "tiny-ssd-300": (300, 1.03, 2 * 0.51),
}
PARAMETERS = {
    "yunet-n": 75_856,
    "yunet-s": 54_608,
    "ultralight-slim-320": 260_188,
    "ultralight-slim-640": 260_188,
    "ultralight-rfb-320": 276_292,
    "ultralight-rfb-640": 276_292,
    "retinaface-mobilenetv1-0.25-p3": 426_608,
}
PRIORS = {
    "ultralight-slim-320": (240, 320, 4_420),
    "ultralight-rfb-320": (240, 320, 4_420),
    "ultralight-slim-640": (480, 640, 17_640),
    "ultralight-rfb-640": (480, 640, 17_640),
}


def network_of(name: str) -> Any:
    """On no device at all: counting needs the shapes alone."""
    return build_model(load_template(find_template(name))).to("meta")


def metrics_of(name: str) -> dict[str, float]:
    return {metric.key: metric.value for metric in load_template(find_template(name)).metrics}


@pytest.mark.parametrize("name", OPENVINO)
def test_the_openvino_tables(name: str) -> None:
    side, mega_parameters, gflops = OPENVINO[name]
    assert load_template(find_template(name)).input.size_hw == (side, side)
    network, said = network_of(name), metrics_of(name)
    assert count_parameters(network) == pytest.approx(mega_parameters * 1e6, rel=0.01)
    assert 2e-9 * count_macs(network, (side, side)) == pytest.approx(gflops, rel=0.01)
    assert (said["size"], said["complexity"]) == pytest.approx((mega_parameters, gflops), rel=0.01)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_to_the_last_one(name: str) -> None:
    assert count_parameters(network_of(name)) == PARAMETERS[name]
    assert metrics_of(name)["size"] == pytest.approx(PARAMETERS[name] / 1e6, rel=0.01)


@pytest.mark.parametrize(("name", "mega_macs"), [("yunet-n", 149), ("yunet-s", 96)])
def test_yunet_at_320(name: str, mega_macs: float) -> None:
    assert count_macs(network_of(name), (320, 320)) == pytest.approx(mega_macs * 1e6, rel=0.01)


def test_scrfd_without_landmarks_on_vga() -> None:
    rows = layer_costs(network_of("scrfd-0.5g"), (480, 640))
    landmarks = [row for row in rows if row.name.endswith("landmark_conv")]
    assert [row.name for row in landmarks] == [f"level_heads.{level}.landmark_conv" for level in range(3)]
    macs = sum(row.macs for row in rows) - sum(row.macs for row in landmarks)
    assert macs == pytest.approx(0.508e9, rel=0.01)


@pytest.mark.parametrize("name", PRIORS)
def test_priors_of_ultra_light(name: str) -> None:
    height, width, priors = PRIORS[name]
    assert load_template(find_template(name)).input.size_hw == (height, width)
    assert network_of(name).head.priors((height, width)).tensors().cxcywh.shape == (priors, 4)


@pytest.mark.parametrize("name", [*PARAMETERS, "scrfd-0.5g"])
def test_the_templates_complexity_is_what_we_count(name: str) -> None:
    """Where nothing is published at the template's own size."""
    size_hw = load_template(find_template(name)).input.size_hw
    assert 2e-9 * count_macs(network_of(name), size_hw) == pytest.approx(metrics_of(name)["complexity"], rel=0.01)
