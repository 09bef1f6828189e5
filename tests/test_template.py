from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest
import yaml

from facekit.base.schema import plain_data
from facekit.errors import FacekitError
from facekit.template import TEMPLATES_DIR, AdamW, Sgd, StepDecay, Template, find_recipe, find_template, load_template
from facekit.weights.checkpoint import describe_model

BUNDLED = sorted(TEMPLATES_DIR.glob("*/template.yaml"))
NAMES = [path.parent.name for path in BUNDLED]

# w and h of level 1, w and h of level 2, as the reference tables write them.
PRIORS_0202 = [
    [1.28 * side for side in row]
    for row in (
        (9.4, 25.1, 14.7, 34.7),
        (15.0, 39.6, 25.5, 63.2),
        (143.0, 77.4, 128.8, 51.1, 75.6),
        (227.5, 162.9, 124.5, 105.1, 72.6),
    )
]
PRIORS = {
    "face-detection-0200": [
        [8.0213, 21.4187, 12.544, 29.6107],
        [12.8, 33.792, 21.76, 53.9307],
        [122.0267, 66.048, 109.9093, 43.6053, 64.512],
        [194.1333, 139.008, 106.24, 89.6853, 61.952],
    ],
    "face-detection-0202": PRIORS_0202,
    "face-detection-0204": [
        [14.0373, 37.4827, 21.952, 51.8187],
        [22.4, 59.136, 38.08, 94.3787],
        [213.5467, 115.584, 192.3413, 76.3093, 112.896],
        [339.7333, 243.264, 185.92, 156.9493, 108.416],
    ],
}
# name: input, batch, GPUs, epochs, size and sha256 of the published .pth
FACTS = {
    "face-detection-0200": (
        256, 65, 2, 70, 14904296, "122e194b95ef631f578fac0dc88ba2be7b2ef9d06263ff6e7a69c846990a85f7"),
    "face-detection-0202": (
        384, 65, 2, 70, 14904301, "774ad73bd1529c4f54867f35d18db00ddc896e6586be89b0b1ed4b0c5161051e"),
    "face-detection-0204": (
        448, 32, 4, 70, 14904360, "7a227579f8ebc9017a742ed66b3a9bdc3582090a1c06c9ccbf84722b4a2ffad2"),
    "yunet-n": (
        640, 16, 2, 640, 747497, "9c7c9e14a4d60e57491d77e4d8b0d451bd834f300e05c0dea7fd1f6533817b06"),
}  # fmt: skip
# AP50:95, AP>64, easy, medium, hard, millions of parameters, GFLOPs
PUBLISHED = {
    "face-detection-0200": (16.0, 86.743, 82.917, 76.198, 41.443, 1.83, 0.82),
    "face-detection-0202": (20.3, 91.938, 89.382, 83.919, 50.189, 1.83, 1.84),
    "face-detection-0204": (21.4, 92.888, 90.453, 85.448, 52.091, 1.83, 2.52),
}
METRIC_KEYS = ("ap", "ap_64x64", "widerface_e", "widerface_m", "widerface_h", "size", "complexity")


def bundled(name: str) -> Template:
    return load_template(TEMPLATES_DIR / name / "template.yaml")


def edited(folder: Path, old: str, new: str) -> Path:
    """A copy of 0200's template.yaml with one piece of text replaced."""
    text = (TEMPLATES_DIR / "face-detection-0200" / "template.yaml").read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path = folder / "template.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def line_of(path: Path, text: str) -> int:
    return next(i for i, line in enumerate(path.read_text().splitlines(), start=1) if text in line)


def complaint(path: Path) -> str:
    with pytest.raises(FacekitError) as caught:
        load_template(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_the_issues_templates_are_there() -> None:
    assert {*FACTS} <= {*NAMES}


@pytest.mark.parametrize("path", BUNDLED, ids=NAMES)
class TestEveryBundled:
    def test_loads_under_its_folders_name(self, path: Path) -> None:
        assert load_template(path).name == path.parent.name

    def test_seeds_shell_line_gives_the_epochs(self, path: Path) -> None:
        line = f"cat '{path}' | grep epochs | tr -dc '0-9'"
        digits = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout
        assert digits == str(load_template(path).training.epochs)

    def test_agrees_with_plain_yaml(self, path: Path) -> None:
        """Numbers such as 1.0e-4 mean the same to whoever reads the file without our reader."""
        plain, ours = yaml.safe_load(path.read_text(encoding="utf-8")), load_template(path)
        for part in ("training", "evaluation"):
            for key, value in plain[part].items():
                assert plain_data(getattr(getattr(ours, part), key)) == value, key

    def test_is_frozen(self, path: Path) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            load_template(path).training.epochs = 1  # type: ignore[misc]

    def test_protocol_says_size_and_thresholds(self, path: Path) -> None:
        template = load_template(path)
        text = template.protocol()
        assert f"score {template.evaluation.score_threshold:g}" in text
        assert f"NMS {template.evaluation.nms_iou_threshold:g}" in text
        height, width = template.input.size_hw
        assert (f"resize {width}x{height}" in text) == (template.evaluation.resize == "stretch")


class TestReferenceTables:
    @pytest.mark.parametrize("name", PRIORS)
    def test_priors(self, name: str) -> None:
        first_w, first_h, second_w, second_h = PRIORS[name]
        levels = bundled(name).model.prior_sizes_wh
        for level, widths, heights in zip(levels, (first_w, second_w), (first_h, second_h), strict=True):
            wanted = zip(widths, heights, strict=True)
            assert list(level) == [pytest.approx(size, abs=1e-4) for size in wanted]

    def test_priors_of_yunet(self) -> None:
        assert bundled("yunet-n").model.prior_sizes_wh == (((8, 8),), ((16, 16),), ((32, 32),))

    @pytest.mark.parametrize("name", FACTS)
    def test_facts(self, name: str) -> None:
        side, batch_size, gpus, epochs, size, sha256 = FACTS[name]
        template = bundled(name)
        assert template.input.size_hw == (side, side)
        assert (template.training.batch_size, template.gpu_num, template.training.epochs) == (batch_size, gpus, epochs)
        first = template.snapshot[0]
        assert first.format == "torch"
        assert [(file.size, file.sha256) for file in first.files] == [(size, sha256)]

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_published_metrics(self, name: str) -> None:
        metrics = {metric.key: metric.value for metric in bundled(name).metrics}
        assert metrics == dict(zip(METRIC_KEYS, PUBLISHED[name], strict=True))

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_ssd_training(self, name: str) -> None:
        template = bundled(name)
        training = template.training
        assert (training.base_learning_rate, training.optimizer) == (0.05, Sgd("sgd", 0.9, 5e-4))
        assert (training.warmup_iterations, training.dataset_repeats) == (1200, 2)
        assert training.schedule == StepDecay("step", (40, 55, 65), 0.1)
        assert training.warmup_start == pytest.approx(1 / 3, abs=1e-3)
        assert (template.augmentation.min_face_size, template.augmentation.flip_probability) == (17, 0.5)
        assert (template.input.colour_order, template.input.mean, template.input.std) == ("rgb", (0,) * 3, (255,) * 3)
        rule = template.evaluation
        assert (rule.score_threshold, rule.nms_iou_threshold, rule.max_candidates, rule.max_detections) == (
            0.02, 0.45, 200, 200,
        )  # fmt: skip

    def test_yunet_training(self) -> None:
        template = bundled("yunet-n")
        training = template.training
        assert (training.base_learning_rate, training.optimizer) == (0.01, Sgd("sgd", 0.9, 5e-4))
        assert (training.warmup_iterations, training.warmup_start) == (1500, 0.001)
        assert training.schedule == StepDecay("step", (400, 544), 0.1)
        assert (template.input.colour_order, template.input.mean, template.input.std) == ("bgr", (0,) * 3, (1,) * 3)
        assert (template.evaluation.resize, template.evaluation.size_multiple) == ("none", 32)

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_digests_of_the_shared_irs(self, name: str, shared_dir: Path) -> None:
        """The second source is byte for byte what lies in ../shared."""
        known = {}
        for line in (shared_dir / "weights" / "SHA256SUMS").read_text().splitlines():
            digest, _, file = line.partition(" ")
            known[Path(file.strip(" *")).name] = digest
        second = bundled(name).snapshot[1]
        assert second.format == "openvino_ir"
        assert [file.sha256 for file in second.files] == [known[f"{name}.xml"], known[f"{name}.bin"]]


class TestComplaints:
    def test_unknown_key(self, tmp_path: Path) -> None:
        path = edited(tmp_path, "  epochs: 70", "  epochs: 70\n  bach_size: 65")
        text = complaint(path)
        assert f":{line_of(path, 'bach_size')}: training.bach_size: unknown key; did you mean 'batch_size'" in text

    def test_unknown_key_of_an_inner_section(self, tmp_path: Path) -> None:
        path = edited(tmp_path, "momentum: 0.9", "momentun: 0.9")
        text = complaint(path)
        place = f":{line_of(path, 'momentun')}: training.optimizer.momentun"
        assert f"{place}: unknown key; did you mean 'momentum'" in text

    def test_missing_key(self, tmp_path: Path) -> None:
        path = edited(tmp_path, "  epochs: 70\n", "")
        assert f":{line_of(path, 'optimizer:')}: training: missing key epochs" in complaint(path)

    def test_misspelt_key_is_told_with_the_right_one(self, tmp_path: Path) -> None:
        assert "did you mean 'gpu_num'" in complaint(edited(tmp_path, "gpu_num:", "gpu_nun:"))

    def test_text_for_a_number(self, tmp_path: Path) -> None:
        path = edited(tmp_path, "epochs: 70", "epochs: seventy")
        text = complaint(path)
        assert f":{line_of(path, 'seventy')}: training.epochs: expected a whole number, got 'seventy'" in text

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ("epochs: 70", "epochs: 0", "training.epochs: expected 1 to 100000, got 0"),
            ("[40, 55, 65]", "[55, 40]", "training.schedule: milestones must ascend"),
            ("std: [255, 255, 255]", "std: [255, 0, 255]", "input.std[1]: expected 0.001 to 100000, got 0"),
            (
                "kind: step\n    milestones: [40, 55, 65]",
                "kind: stair",
                "training.schedule: expected a mapping whose 'kind' is one",
            ),
            (
                "kind: step\n    milestones: [40, 55, 65]\n    factor: 0.1",
                "kind: cosine\n    final_factor: 2",
                "training.schedule.final_factor: expected 0 to 1, got 2",
            ),
            (
                "kind: step\n    milestones: [40, 55, 65]\n    factor: 0.1",
                "kind: cosine\n    final_factor: 0\n    held: 1",
                "training.schedule.held: expected 0 or more, under 1, got 1",
            ),
            ("accumulate: 1", "accumulate: 0", "training.accumulate: expected 1 to 10000, got 0"),
            ("ema_decay: null", "ema_decay: 1", "training.ema_decay: expected over 0, under 1, got 1"),
            ("start_share: 0", "start_share: 1", "training.start_share: expected 0 or more, under 1, got 1"),
            ("start_share: 0", "start_share: 0.5", "training: start_share is of averaged weights: give ema_decay"),
            ("frozen: []", "frozen: backbone", "training.frozen: expected a list"),
            (
                "early_stopping: null",
                "early_stopping: {patience: 0, least_gain: 0.1}",
                "training.early_stopping.patience: expected 1 to 100000, got 0",
            ),
            (
                "kind: min_iou\n    min_ious: [0.1, 0.3, 0.5, 0.7, 0.9]\n    min_scale: 0.1",
                "kind: jittered_square\n    least: 2\n    most: 1\n    attempts: 9\n    empty_crop_probability: 0",
                "augmentation.crop: least must not lie over most, got 2.0 and 1.0",
            ),
            (
                "kind: min_iou\n    min_ious: [0.1, 0.3, 0.5, 0.7, 0.9]\n    min_scale: 0.1",
                "kind: square\n    scales: [1]\n    attempts: 9\n    empty_crop_probability: 1.5",
                "augmentation.crop.empty_crop_probability: expected 0 to 1, got 1.5",
            ),
            ("ratio: 0.5", "ratio: 1.5", "compression.sparsity.ratio: expected over 0, under 1, got 1.5"),
            ("url: https://", "url: http://", "snapshot[0].files[0]: url must start with https://"),
            ("sha256: 122e", "sha256: 122E", "snapshot[0].files[0]: sha256 must be 64 lower-case hexadecimal"),
            ("format: torch", "format: openvino_ir", "snapshot[0]: files: one for format torch, two"),
            ("kind: min_iou", "kind: max_iou", "augmentation.crop: expected a mapping whose 'kind' is one of"),
            (
                "kind: min_iou\n    min_ious: [0.1, 0.3, 0.5, 0.7, 0.9]\n    min_scale: 0.1",
                "kind: whole_face\n    scales: [0.5, 1.2]\n    attempts: 9",
                "augmentation.crop.scales[1]: expected over 0, at most 1, got 1.2",
            ),
            ("kind: sgd", "kind: sdg", "training.optimizer: expected a mapping whose 'kind' is one of sgd, adamw"),
            ("kind: sgd", "kind: adamw", "training.optimizer.momentum: unknown key; did you mean 'weight_decay'"),
            ("momentum: 0.9", "momentum: -0.1", "training.optimizer.momentum: expected 0 or more, under 1, got -0.1"),
            ("momentum: 0.9", "momentum: 1", "training.optimizer.momentum: expected 0 or more, under 1, got 1"),
            ("weight_decay: 5.0e-4", "weight_decay: -1", "training.optimizer.weight_decay: expected 0 to 1, got -1"),
            ("rate: 0.05", "rate: 1e308", "training.base_learning_rate: expected over 0, at most 100, got 1e308"),
            ("size_hw: [256, 256]", "size_hw: [1, 1]", "input.size_hw[0]: expected 16 to 8192, got 1"),
            ("size_hw: [256, 256]", "size_hw: [1000000000, 256]", "input.size_hw[0]: expected 16 to 8192"),
            ("size_hw: [256, 256]", "size_hw: [8192, 8192]", "input: size_hw: expected at most 33554432 pixels"),
            (
                "size_multiple: 1",
                f"size_multiple: {2**70}",
                "evaluation.size_multiple: expected a whole number of at mo",
            ),
            ("size_multiple: 1", "size_multiple: 4096", "evaluation.size_multiple: expected 1 to 1024, got 4096"),
            ("repeats: 2", "repeats: 1000000000", "training.dataset_repeats: expected 1 to 1000, got 1000000000"),
            ("[40, 55, 65]", "[-40, 55]", "training.schedule.milestones[0]: expected 1 to 100000, got -40"),
            ("batch_size: 65", "batch_size: 1000000", "training.batch_size: expected 1 to 4096, got 1000000"),
            ("[0.5, 1.5]", "[1.5, 0.5]", "augmentation.photometric: contrast must ascend, got 1.5 and 0.5"),
            ("hue_delta: 18", "hue_delta: 361", "augmentation.photometric.hue_delta: expected 0 to 180, got 361"),
            ("size: 14904296", "size: 1000000000000000", "snapshot[0].files[0].size: expected 1 to 8589934592"),
            ("url: https://d", "url: https://[d", "snapshot[0].files[0]: url has no host that can be read"),
            ("url: https://d", "url: https://ü", "snapshot[0].files[0]: url must be ASCII"),
            (
                "url: https://download",
                "url: https://..",
                "snapshot[0].files[0]: url has the host '...01.org', which is",
            ),
            (
                "url: https://d",
                f"url: https://d/{5000 * 'x'}",
                "snapshot[0].files[0].url: expected 1 to 2000 characters",
            ),
            (
                "url: https://download.01.org",
                "url: https://x:99999",
                "snapshot[0].files[0]: url has no host that can be",
            ),
            (
                "[[8.0213, 12.8], [21",
                "[[0, 12.8], [21",
                "model.prior_sizes_wh[0][0][0]: expected over 0, at most 16384",
            ),
            ("colour_order: rgb", "colour_order: rbg", "input.colour_order: expected one of rgb, bgr, got 'rbg'"),
        ],
    )
    def test_values(self, tmp_path: Path, old: str, new: str, expected: str) -> None:
        text = complaint(edited(tmp_path, old, new))
        assert expected in text
        assert text.removeprefix(f"{tmp_path / 'template.yaml'}:").partition(":")[0].isdigit()

    def test_short_exponent(self, tmp_path: Path) -> None:
        path = edited(tmp_path, "weight_decay: 5.0e-4", "weight_decay: 5e-4")
        assert load_template(path).training.optimizer.weight_decay == 0.0005

    def test_other_optimizer(self, tmp_path: Path) -> None:
        path = edited(tmp_path, "{kind: sgd, momentum: 0.9, weight_decay: 5.0e-4}", "{kind: adamw, weight_decay: 0.1}")
        assert load_template(path).training.optimizer == AdamW("adamw", 0.1)

    def test_a_password_is_not_shown(self, tmp_path: Path) -> None:
        text = complaint(edited(tmp_path, "url: https://", "url: https://me:s3cret@"))
        assert "url holds a user or a password" in text
        assert "s3cret" not in text

    def test_no_imagenet_weights(self, tmp_path: Path) -> None:
        path = edited(tmp_path, "imagenet_weights: MobileNet_V2_Weights.IMAGENET1K_V1", "imagenet_weights: null")
        assert load_template(path).model.imagenet_weights is None


class TestOptionalKeys:
    """What is off, or the same in all bundled templates: a template without it means what those with it say."""

    @pytest.mark.parametrize("name", NAMES)
    def test_left_out(self, tmp_path: Path, name: str) -> None:
        content = yaml.safe_load((TEMPLATES_DIR / name / "template.yaml").read_text(encoding="utf-8"))
        optional = {
            "model": {"imagenet_weights": None},
            "training": {
                "dataset_repeats": 1, "max_gradient_norm": None, "accumulate": 1, "ema_decay": None, "frozen": [],
                "frozen_batch_norm": False, "early_stopping": None,
            },
            "augmentation": {"flip_probability": 0.5},
            "evaluation": {"size_multiple": 1, "nms_union_slack": 0, "max_candidates": None, "max_detections": None},
        }  # fmt: skip
        for part, keys in optional.items():
            for key, value in keys.items():
                if content[part][key] == value:
                    del content[part][key]
        del content["compression"]
        path = tmp_path / "template.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        assert plain_data(load_template(path)) == plain_data(bundled(name))

    def test_of_facekit_0_3(self, tmp_path: Path) -> None:
        path = edited(
            tmp_path,
            "  schedule:\n    kind: step\n    milestones: [40, 55, 65]\n    factor: 0.1\n",
            "  milestones: [40, 55, 65]\n  milestone_factor: 0.1\n",
        )
        assert plain_data(load_template(path)) == plain_data(bundled("face-detection-0200"))

    def test_of_facekit_0_3_complains_at_its_line(self, tmp_path: Path) -> None:
        path = edited(
            tmp_path,
            "  schedule:\n    kind: step\n    milestones: [40, 55, 65]\n    factor: 0.1\n",
            "  milestones: [40, 55, 65]\n  milestone_factor: 7\n",
        )
        text = complaint(path)
        assert f":{line_of(path, 'milestone_factor')}: training.schedule.factor: expected over 0, at most 1" in text


class TestFind:
    def test_name(self) -> None:
        assert find_template("yunet-n") == TEMPLATES_DIR / "yunet-n" / "template.yaml"

    def test_file_and_work_dir(self, tmp_path: Path) -> None:
        path = edited(tmp_path, "gpu_num: 2", "gpu_num: 1")
        assert find_template(str(path)) == path
        assert find_template(str(tmp_path)) == path

    @pytest.mark.parametrize(
        ("name", "near"),
        [("yunetn", "yunet-n"), ("yunet_s", "yunet-s"), ("YuNet-N", "yunet-n"),
         ("face-detection-200", "face-detection-0200"),
         ("retinaface-mobilenet1-0.25", "retinaface-mobilenetv1-0.25"), ("model_templates/yunet_n/", "yunet-n")],
    )  # fmt: skip
    def test_nearest_is_named(self, name: str, near: str) -> None:
        with pytest.raises(FacekitError, match=rf"Did you mean {near}\?"):
            find_template(name)

    @pytest.mark.parametrize("name", ["zzz", "a\0b", "x" * 5000, "../yunet-n"])
    def test_odd_names(self, name: str) -> None:
        with pytest.raises(FacekitError, match=r"^No template ") as caught:
            find_template(name)
        assert len(str(caught.value)) < 700

    @pytest.mark.parametrize("name", ["", "face-detection-9999", "/no/such/template.yaml"])
    def test_unknown_lists_the_known(self, name: str) -> None:
        with pytest.raises(FacekitError, match=r"face-detection-0200, .*yunet-n"):
            find_template(name)


class TestFindRecipe:
    @pytest.mark.parametrize(
        "path", sorted(TEMPLATES_DIR.glob("*/recipe-*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
    )
    def test_each_trains_the_detector_that_it_lies_beside(self, path: Path) -> None:
        recipe, template = load_template(path), load_template(path.with_name("template.yaml"))
        assert describe_model(recipe) == describe_model(template)
        assert (recipe.name, recipe.evaluation, recipe.snapshot) == (
            template.name, template.evaluation, template.snapshot,
        )  # fmt: skip

    def test_beside_the_bundled_template_and_for_a_work_dir_of_it(self, tmp_path: Path) -> None:
        bundled = TEMPLATES_DIR / "yunet-n" / "recipe-1.yaml"
        (tmp_path / "template.yaml").write_text((TEMPLATES_DIR / "yunet-n" / "template.yaml").read_text("utf-8"))
        for name in ("yunet-n", str(TEMPLATES_DIR / "yunet-n" / "template.yaml"), str(tmp_path)):
            assert find_recipe(name, "yunet-n", "1") == bundled
        (tmp_path / "recipe-1.yaml").write_text("ours")
        (tmp_path / "recipe-mine.yaml").write_text("ours")
        assert find_recipe(str(tmp_path), "yunet-n", "1") == tmp_path / "recipe-1.yaml"
        assert find_recipe(str(tmp_path), "yunet-n", "mine") == tmp_path / "recipe-mine.yaml"

    @pytest.mark.parametrize(
        ("name", "recipe", "told"),
        [("yunet-n", "../yunet-s/template", "its recipes are 1, 2, 3, 4, 5, 6, 7"), ("yunet-s", "1", "it has none")],
    )
    def test_says_what_there_is(self, name: str, recipe: str, told: str) -> None:
        with pytest.raises(FacekitError, match=told):
            find_recipe(name, name, recipe)
