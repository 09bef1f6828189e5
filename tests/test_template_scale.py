"""Other evaluation sizes than the template's own."""

from __future__ import annotations

import dataclasses

import pytest

from facekit.errors import FacekitError
from facekit.protocol import at_scale
from facekit.template import TEMPLATES_DIR, Template, load_template

TEMPLATES = sorted(path.parent.name for path in TEMPLATES_DIR.glob("*/template.yaml"))


def bundled(name: str) -> Template:
    return load_template(TEMPLATES_DIR / name / "template.yaml")


@pytest.mark.parametrize(
    ("scale", "size_hw", "resize", "feeds_one_size"),
    [
        ("origin", (240, 320), "none", False),
        ("max:640", (640, 640), "fit", False),
        ("max:1", (1, 1), "fit", False),
        ("640", (640, 640), "fit", False),
        ("vga", (640, 640), "letterbox", True),
        ("640x480", (480, 640), "stretch", True),  # width first
        ("9999x1", (1, 9999), "stretch", True),
    ],
)
def test_changes_size_and_resize_alone(scale: str, size_hw: tuple[int, int], resize: str, feeds_one_size: bool) -> None:
    template = bundled("ultralight-slim-320")
    scaled = at_scale(template, scale)
    assert (scaled.input.size_hw, scaled.evaluation.resize) == (size_hw, resize)
    assert scaled.evaluation.feeds_one_size == feeds_one_size
    undone = dataclasses.replace(
        scaled,
        input=dataclasses.replace(scaled.input, size_hw=template.input.size_hw),
        evaluation=dataclasses.replace(scaled.evaluation, resize=template.evaluation.resize),
    )
    assert undone == template
    assert template == bundled("ultralight-slim-320")


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_is_its_own(name: str) -> None:
    assert at_scale(bundled(name), "template") == bundled(name)


@pytest.mark.parametrize(
    ("name", "scale", "words"),
    [
        ("yunet-n", "template", "own size, zero-padded to 32; "),
        ("yunet-n", "max:640", "fit into 640x640, zero-padded to 32; "),
        ("yunet-n", "640", "fit into 640x640, zero-padded to 32; "),
        ("yunet-n", "vga", "fit into 640x640, zero-padded to it; "),
        ("face-detection-0200", "origin", "own size; "),
        ("face-detection-0200", "max:800", "fit into 800x800; "),
        ("face-detection-0200", "640x480", "resize 640x480; "),
        ("scrfd-0.5g", "template", "fit into 640x640, zero-padded to it; "),
        ("scrfd-0.5g", "origin", "own size, zero-padded to 32; "),
    ],
)
def test_the_protocol_says_it(name: str, scale: str, words: str) -> None:
    assert at_scale(bundled(name), scale).protocol().startswith(words)


@pytest.mark.parametrize(
    "scale",
    ["", "641", "VGA", "max", "max:", "max:-1", "max:6.5", "max:640 ", " origin", "Origin", "640x", "x480", "640X480",
     "640x480x3", "-640x480", "640 x 480", "max:123456", "123456x1", "template,origin", "max:640\n"],
)  # fmt: skip
def test_anything_else(scale: str) -> None:
    with pytest.raises(FacekitError) as caught:
        at_scale(bundled("yunet-n"), scale)
    assert f"`scale={scale}`: expected template, origin, 640, vga, max:N or WxH" in str(caught.value)


@pytest.mark.parametrize("scale", ["max:0", "0x480", "640x0", "max:00000"])
def test_no_pixels(scale: str) -> None:
    with pytest.raises(FacekitError, match="`scale="):
        at_scale(bundled("yunet-n"), scale)
