from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml

from facekit.errors import FacekitError
from facekit.labels.picture_labels import PictureLabels
from facekit.template import TEMPLATES_DIR, SquareCrop, Template, load_template
from facekit.training_data.prior_choice import choose_priors, training_boxes, write_template


def template_of(name: str) -> Template:
    return load_template(TEMPLATES_DIR / name / "template.yaml")


def picture(*boxes_xywh: tuple[float, ...], size_wh: tuple[int, int] = (640, 480)) -> PictureLabels:
    """Of a file that is not there: sizes come from the labels."""
    boxes = np.array(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    landmarks = np.full((len(boxes), 5, 2), np.nan)
    return PictureLabels(Path("none.jpg"), size_wh, boxes, landmarks, np.zeros(len(boxes), bool))


class TestTrainingBoxes:
    def test_square_crops_of_one_scale(self) -> None:
        template = template_of("ultralight-rfb-320")
        crop = SquareCrop("square", (1.0,), 50, 0)
        template = dataclasses.replace(
            template, augmentation=dataclasses.replace(template.augmentation, crop=crop, min_face_size=0)
        )
        height, width = template.input.size_hw
        boxes_xyxy = training_boxes(template, [picture((300, 200, 24, 48))], 0)
        # The short side, 480 pixels, becomes the input's; the face's centre lies in each crop.
        sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).amax(dim=0)
        assert sides.tolist() == pytest.approx([24 * width / 480, 48 * height / 480], abs=0.01)

    def test_faces_that_training_leaves_out(self) -> None:
        with pytest.raises(FacekitError, match=r"2 pictures hold no face that face-detection-0200 trains on.*min_face"):
            training_boxes(template_of("face-detection-0200"), [picture((9, 9, 10, 10)), picture()], 0)


class TestChoosePriors:
    def test_one_size_in_the_middle_of_everything(self) -> None:
        template = template_of("face-detection-0200")
        pictures = [picture((x, y, 60, 80)) for x in range(40, 560, 80) for y in range(40, 380, 80)]
        choice = choose_priors(template, pictures, 0)
        assert tuple(map(len, choice.sizes_wh)) == tuple(map(len, template.model.prior_sizes_wh))
        assert choice.after.mean_iou > choice.before.mean_iou
        assert choice == choose_priors(template, pictures, 0)
        text = choice.text()
        assert "before" in text and "after" in text and "  prior_sizes_wh:\n    - [[" in text

    @pytest.mark.parametrize("name", ["yunet-n", "scrfd-0.5g", "face-detection-0205"])
    def test_points_have_no_sizes(self, name: str) -> None:
        with pytest.raises(FacekitError, match=rf"{name} learns from one point a cell.*Give a template with prior"):
            choose_priors(template_of(name), [picture((9, 9, 100, 100))], 0)


class TestWriteTemplate:
    def test_as_a_program_writes_yaml(self, tmp_path: Path) -> None:
        """Without indents in front of lists."""
        path = tmp_path / "dumped.yaml"
        content = yaml.safe_load((TEMPLATES_DIR / "ultralight-rfb-320" / "template.yaml").read_text())
        path.write_text(yaml.safe_dump(content))
        sizes_wh = tuple(
            tuple((w + 1.0, h + 2.0) for w, h in level) for level in load_template(path).model.prior_sizes_wh
        )
        write_template(path, sizes_wh, tmp_path / "template.yaml")
        after = load_template(tmp_path / "template.yaml")
        assert (after.model.prior_sizes_wh, after.snapshot, after.metrics) == (sizes_wh, (), ())

    @pytest.mark.parametrize("path", sorted(TEMPLATES_DIR.glob("*/template.yaml")), ids=lambda path: path.parent.name)
    def test_all_else_stays(self, path: Path, tmp_path: Path) -> None:
        before = load_template(path)
        sizes_wh = tuple(
            tuple((width * 1.5, height + 0.25) for width, height in level) for level in before.model.prior_sizes_wh
        )
        sizes_wh = tuple(tuple((round(w, 2), round(h, 2)) for w, h in level) for level in sizes_wh)
        write_template(path, sizes_wh, tmp_path / "template.yaml")
        after = load_template(tmp_path / "template.yaml")
        assert after.model.prior_sizes_wh == sizes_wh
        assert (after.snapshot, after.metrics) == ((), ())
        for part in ("name", "input", "training", "augmentation", "evaluation", "compression", "gpu_num"):
            assert getattr(after, part) == getattr(before, part)
        comments = [line for line in path.read_text().splitlines() if line.lstrip().startswith("#")]
        assert set(comments) <= set((tmp_path / "template.yaml").read_text().splitlines())
