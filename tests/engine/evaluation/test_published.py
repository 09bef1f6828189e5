from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from facekit.engine.evaluation.published import published_figures
from facekit.labels.picture_labels import PictureLabels
from facekit.metrics.wider import is_validation_set, read_wider_ground_truth
from facekit.template import TEMPLATES_DIR, Template, load_template

OTHER = "another protocol"


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template(TEMPLATES_DIR / "face-detection-0200" / "template.yaml")


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> list[PictureLabels]:
    """Two pictures that are the whole validation set, as far as these tests know."""
    monkeypatch.setattr(
        "facekit.engine.evaluation.published.is_validation_set",
        lambda names, faces: (sorted(names), faces) == (["0--Parade/a", "0--Parade/b"], 3),
    )
    return [picture("a", 2), picture("b", 1)]


def picture(name: str, faces: int, crowds: int = 0) -> PictureLabels:
    count = faces + crowds
    return PictureLabels(
        Path("WIDER_val/images/0--Parade") / f"{name}.jpg", None, np.full((count, 4), 9.0),
        np.full((count, 5, 2), np.nan), np.arange(count) >= faces,
    )  # fmt: skip


def test_beside_their_own_set_and_protocol(template: Template, pictures: list[PictureLabels]) -> None:
    everything = {metric.key: metric.value for metric in template.metrics}
    wider, note = published_figures(template, template.protocol(), None, pictures)
    assert wider == everything and note == ""
    labelled, note = published_figures(template, template.protocol(), pictures, None)
    assert set(labelled) == {"ap", "ap_64x64", "size", "complexity"} and note == ""


def test_never_beside_another_set(template: Template, pictures: list[PictureLabels]) -> None:
    shown, note = published_figures(template, template.protocol(), [picture("mine", 3)], None)
    assert set(shown) == {"size", "complexity"}
    assert "3226 pictures of WIDER FACE's validation set" in note and "another set," in note


@pytest.mark.parametrize("changed", [[], [picture("a", 2)], [picture("a", 2), picture("b", 1), picture("c", 0)],
                                     [picture("a", 2), picture("b", 0, crowds=1)]])  # fmt: skip
def test_a_part_of_the_set_is_another_set(
    template: Template, pictures: list[PictureLabels], changed: list[PictureLabels]
) -> None:
    assert set(published_figures(template, template.protocol(), None, changed)[0]) == {"size", "complexity"}


def test_never_beside_another_protocol(template: Template, pictures: list[PictureLabels]) -> None:
    shown, note = published_figures(template, OTHER, pictures, pictures)
    assert set(shown) == {"size"}
    assert "another protocol, so" in note
    assert "another protocol and set" in published_figures(template, OTHER, [picture("mine", 1)], None)[1]


def test_each_figure_goes_by_the_set_that_it_was_measured_on(template: Template, pictures: list[PictureLabels]) -> None:
    shown, note = published_figures(template, template.protocol(), [picture("mine", 1)], pictures)
    assert set(shown) == {"widerface_e", "widerface_m", "widerface_h", "size", "complexity"}
    assert note


def test_templates_that_publish_no_accuracy_leave_nothing_out() -> None:
    tiny = load_template(TEMPLATES_DIR / "tiny-ssd-300" / "template.yaml")
    tiny = dataclasses.replace(tiny, metrics=tuple(each for each in tiny.metrics if each.key in ("size", "complexity")))
    assert published_figures(tiny, tiny.protocol(), [picture("mine", 1)], None)[1] == ""


def test_the_validation_set_is_known(shared_dir: Path) -> None:
    shared = shared_dir / "data" / "widerface"
    whole = read_wider_ground_truth(shared / "ground_truth")
    faces = sum(map(len, whole.boxes_xywh))
    assert is_validation_set(whole.names, faces)
    assert is_validation_set(reversed(whole.names), faces - 100)
    assert not is_validation_set(whole.names[1:], faces)
    assert not is_validation_set(whole.names, faces // 2)
    assert not is_validation_set(read_wider_ground_truth(shared / "ground_truth_subset").names, faces)
