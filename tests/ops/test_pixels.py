from __future__ import annotations

import torch

from facekit.ops.pixels import normalise
from facekit.template import InputSettings, find_template, load_template

# One pixel: blue 10, green 20, red 30.
PIXEL_BGR = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)


def settings(colour_order: str, mean: tuple[float, ...], std: tuple[float, ...]) -> InputSettings:
    return InputSettings((1, 1), colour_order, mean, std)  # type: ignore[arg-type]


def test_bgr_as_it_is() -> None:
    out = normalise(PIXEL_BGR, settings("bgr", (0, 0, 0), (1, 1, 1)))
    assert out.dtype == torch.float32
    assert out.flatten().tolist() == [10, 20, 30]


def test_mean_and_std_are_in_the_networks_channel_order() -> None:
    out = normalise(PIXEL_BGR, settings("rgb", (1, 2, 3), (1, 2, 4)))
    assert out.flatten().tolist() == [30 - 1, (20 - 2) / 2, (10 - 3) / 4]
    out = normalise(PIXEL_BGR, settings("bgr", (1, 2, 3), (1, 2, 4)))
    assert out.flatten().tolist() == [10 - 1, (20 - 2) / 2, (30 - 3) / 4]


def test_uint8_does_not_wrap_around() -> None:
    out = normalise(PIXEL_BGR, settings("bgr", (100, 0, 0), (1, 1, 1)))
    assert out.flatten().tolist() == [-90, 20, 30]


def test_any_dtype_and_batch() -> None:
    images = torch.arange(2 * 3 * 2 * 2).view(2, 3, 2, 2)
    rule = settings("rgb", (1, 1, 1), (2, 2, 2))
    expected = normalise(images.to(torch.uint8), rule)
    assert expected.shape == (2, 3, 2, 2)
    for dtype in (torch.float32, torch.float64, torch.int64):
        assert torch.equal(normalise(images.to(dtype), rule), expected)


def test_argument_stays_as_it_is() -> None:
    images = torch.full((1, 3, 2, 2), 7.0)
    normalise(images, settings("rgb", (1, 1, 1), (2, 2, 2)))
    assert (images == 7).all()


def test_0200_scales_to_0_to_1() -> None:
    out = normalise(PIXEL_BGR, load_template(find_template("face-detection-0200")).input)
    torch.testing.assert_close(out.flatten(), torch.tensor([30.0, 20, 10]) / 255)
