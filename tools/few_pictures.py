"""Fine-tuning on few pictures of another kind: what it gives there, and what it forgets.

    python tools/few_pictures.py FOLDER [--counts 10,50,200] [--seeds 3] [--kinds dim,small,fisheye,turned] [--ways ...]

Takes FACEKIT_SHARED's published yunet-n and its WIDER training pictures: 100 are held out, some of the others are
learnt from, all changed to one kind. Each kind, number of pictures and seed is trained in six ways, of as many steps
and as large batches: "preset" is `--preset fine-tune`; "share-0" the same, but nothing of the start is kept; "frozen"
the same, but the backbone stays as it is; "template" the template as it is, whose warm-up is cut to a part of the run;
"norms" likewise, but with batch norms that stay as they are; "rate" the template's rate from the first step. Lines go
to FOLDER/figures.jsonl; started again it goes on.
Prints the table of docs/training.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from trials import Figures, mean_and_spread

import facekit
from facekit.engine.training.presets import Given, choose_preset, measure_data
from facekit.errors import FacekitError
from facekit.labels.formats.coco import read_coco, write_coco
from facekit.labels.picture_labels import PictureLabels
from facekit.pictures.read import read_picture
from facekit.template import find_template, load_template

Image = NDArray[np.uint8]
Points = NDArray[np.float64]  # (N, 2) pixels
TEMPLATE, HELD_OUT = "yunet-n", 100
WAYS = ("preset", "share-0", "frozen", "template", "norms", "rate")
UNLIKE_PRESET: dict[str, dict[str, Any]] = {"share-0": {"start_share": 0}, "frozen": {"frozen": ["backbone"]}}
WIDER_SCALE = "640"  # longest side
KIND_METRIC, WIDER_METRICS = "ap_50", ("widerface_e", "widerface_m", "widerface_h")


def dim(image_bgr: Image, rng: np.random.Generator) -> tuple[Image, Callable[[Points], Points]]:
    """An infrared camera's evening: grey, an eighth of the light, and the noise of photons and of the sensor."""
    grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY).astype(np.float64)
    photons = rng.poisson(grey / 255 * 60) / 60 * 255 / 8
    noisy = np.clip(photons + rng.normal(0, 2, grey.shape), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(noisy, cv2.COLOR_GRAY2BGR), np.uint8), lambda points: points


def small(image_bgr: Image, rng: np.random.Generator) -> tuple[Image, Callable[[Points], Points]]:
    """A camera far away: at 0.4 of the size."""
    height, width = image_bgr.shape[:2]
    size_wh = (max(1, round(width * 0.4)), max(1, round(height * 0.4)))
    shrunk = cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA)
    scale = np.array([shrunk.shape[1] / width, shrunk.shape[0] / height])
    return np.asarray(shrunk, np.uint8), lambda points: points * scale


def fisheye(image_bgr: Image, rng: np.random.Generator) -> tuple[Image, Callable[[Points], Points]]:
    """An equidistant lens (r = f angle) that sees 140 degrees along the diagonal, where the picture's own keeps
    straight lines straight (r = f tan angle)."""
    height, width = image_bgr.shape[:2]
    centre, radius = np.array([width / 2, height / 2]), np.hypot(width, height) / 2
    half = np.radians(70)
    focal, focal_plain = radius / half, radius / np.tan(half) * 1.6  # 1.6: less of the corners, more of the faces

    def forward(points: Points) -> Points:
        offset = points - centre
        distance = np.maximum(np.hypot(*offset.T), 1e-9)
        ratio = focal * np.arctan(distance / focal_plain) / distance
        return np.asarray(centre + offset * ratio[:, None], np.float64)

    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    angle = np.hypot(x - centre[0], y - centre[1]) / focal
    ratio = focal_plain * np.tan(np.minimum(angle, half)) / np.maximum(angle * focal, 1e-9)
    maps = [
        ((value - middle) * ratio + middle - 0.5).astype(np.float32)
        for value, middle in ((x, centre[0]), (y, centre[1]))
    ]
    return np.asarray(cv2.remap(image_bgr, maps[0], maps[1], cv2.INTER_LINEAR), np.uint8), forward


def turned(image_bgr: Image, rng: np.random.Generator) -> tuple[Image, Callable[[Points], Points]]:
    """A sensor mounted on its side: by 90 degrees, clockwise."""
    height = image_bgr.shape[0]
    image = np.ascontiguousarray(np.rot90(image_bgr, -1))
    return image, lambda points: np.stack([height - points[:, 1], points[:, 0]], axis=1)


KINDS = {"dim": dim, "small": small, "fisheye": fisheye, "turned": turned}


class Case(NamedTuple):
    kind: str
    pictures: int
    seed: int
    way: str


def changed(picture: PictureLabels, kind: str, path: Path, number: int) -> PictureLabels:
    """The picture as that kind, written to path; boxes are those around where their outlines go to."""
    image, forward = KINDS[kind](read_picture(picture.path), np.random.default_rng(number))
    cv2.imwrite(str(path), image)
    sides = np.linspace(0, 1, 9)
    outline = np.concatenate([[(t, 0), (t, 1), (0, t), (1, t)] for t in sides])  # of a box of side 1
    boxes = picture.boxes_xywh
    moved = forward((boxes[:, None, :2] + outline * boxes[:, None, 2:]).reshape(-1, 2)).reshape(len(boxes), -1, 2)
    height, width = image.shape[:2]
    lowest, highest = (np.clip(corner, 0, (width, height)) for corner in (moved.min(axis=1), moved.max(axis=1)))
    is_seen = ((highest - lowest) >= 2).all(axis=1)
    xywh = np.concatenate([lowest, highest - lowest], axis=1)
    return replace(picture, path=path, name=path.name, size_wh=(width, height), boxes_xywh=xywh).take(is_seen)


def make_kind(folder: Path, kind: str, pictures: list[PictureLabels]) -> None:
    """folder/kind: images/, held.json with the first HELD_OUT, pool.json with the others."""
    if (folder / kind / "pool.json").is_file():
        return
    images = folder / kind / "images"
    images.mkdir(parents=True, exist_ok=True)
    made = [changed(picture, kind, images / f"{number:04d}.jpg", number) for number, picture in enumerate(pictures)]
    for name, part in (("held", made[:HELD_OUT]), ("pool", made[HELD_OUT:])):
        write_coco(folder / kind / f"{name}.json", [(picture.path.name, picture) for picture in part])


class Trial:
    def __init__(self, folder: Path, shared: Path) -> None:
        self.folder, self.wider = folder, shared / "data" / "widerface"
        self.published = shared / "weights" / "yunet" / "yunet_n.pth"
        self.threads = 1

    def measure(self, weights: Path, kind: str) -> dict[str, float]:
        own = facekit.evaluate(
            TEMPLATE, weights, test_ann_files=(self.folder / kind / "held.json",),
            test_data_roots=(self.folder / kind / "images",), threads=self.threads,
        )  # fmt: skip
        wider = facekit.evaluate(
            TEMPLATE, weights, wider_dir=self.wider, wider_gt=self.wider / "ground_truth_subset", scale=WIDER_SCALE,
            threads=self.threads,
        )  # fmt: skip
        assert own is not None and wider is not None
        figures = {KIND_METRIC: own.record, **dict.fromkeys(WIDER_METRICS, wider.record)}
        return {key: float(record.metric(key).value) for key, record in figures.items()}  # type: ignore[union-attr]

    def train(self, case: Case) -> Path:
        folder = self.folder / case.kind
        pool = read_coco(folder / "pool.json", folder / "images")
        chosen = np.random.default_rng(case.seed).permutation(len(pool))[: case.pictures]
        name = f"{case.pictures}-{case.seed}"
        labels = folder / f"{name}.json"
        learnt = [pool[index] for index in sorted(chosen)]
        write_coco(labels, [(picture.path.name, picture) for picture in learnt])
        out = folder / f"{name}-{case.way}"
        shutil.rmtree(out, ignore_errors=True)
        steps: dict[str, Any] = {"preset": "fine-tune"} if case.way == "preset" else self.steps_of(case, learnt)
        done = facekit.train(
            steps.pop("template", TEMPLATE), train_ann_files=(labels,), train_data_roots=(folder / "images",),
            load_weights=self.published, save_checkpoints_to=out, gpu_num=0, workers=1, seed=case.seed, cache="ram",
            **steps,
        )  # fmt: skip
        assert done is not None
        return done

    def steps_of(self, case: Case, pictures: list[PictureLabels]) -> dict[str, Any]:
        """The template with the preset's number of steps and batch, all else its own; or with all of the preset but
        what UNLIKE_PRESET says."""
        path = find_template(TEMPLATE)
        template = load_template(path)
        size = measure_data(pictures, [], template.augmentation.min_face_size)
        used = choose_preset("fine-tune", template, size, Given()).template.training
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if case.way in UNLIKE_PRESET:
            content["training"] = json.loads(json.dumps(asdict(used))) | UNLIKE_PRESET[case.way]
        else:
            content["training"] |= {"dataset_repeats": used.dataset_repeats}
            content["training"]["frozen_batch_norm"] = case.way == "norms"
        if case.way == "rate":
            content["training"]["warmup_iterations"] = 0
        path = self.folder / case.kind / f"{case.pictures}-{case.seed}-{case.way}.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return {"template": str(path), "epochs": used.epochs, "batch_size": used.batch_size}


def table(figures: Figures) -> str:
    """Of each kind and count: before, and the ways' means, with the spread of the seeds."""
    rows = [
        "| kind | pictures | way | AP@0.5 there | WIDER easy | medium | hard | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    order = ("before", *WAYS)
    groups = figures.groups(("kind", "pictures", "way"))
    for kind, count, way in sorted(groups, key=lambda key: (key[0], key[1], order.index(key[2]))):
        group = groups[kind, count, way]
        cells = [mean_and_spread([line[key] for line in group]) for key in (KIND_METRIC, *WIDER_METRICS)]
        rows.append(f"| {kind} | {count or '-'} | {way} | {' | '.join(cells)} | {len(group)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", default="10,50,200")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--ways", default=",".join(WAYS), help="default: all")
    flags = parser.parse_args()
    shared = Path(os.environ.get("FACEKIT_SHARED", "../shared"))
    trial, kinds, ways = Trial(flags.folder.resolve(), shared), flags.kinds.split(","), flags.ways.split(",")
    wider = shared / "data" / "widerface"
    pictures = read_coco(wider / "train.json", wider / "WIDER_train" / "images")
    mixed = [pictures[index] for index in np.random.default_rng(0).permutation(len(pictures))[:500]]
    figures = Figures(trial.folder)
    cases = [Case(kind, 0, 0, "before") for kind in kinds]
    cases += [
        Case(kind, int(count), seed, way)
        for seed in range(flags.seeds) for count in flags.counts.split(",") for kind in kinds for way in ways
    ]  # fmt: skip
    for case in cases:
        if figures.has(case):
            continue
        make_kind(trial.folder, case.kind, mixed)
        figures_of: dict[str, float | None] = dict.fromkeys((KIND_METRIC, *WIDER_METRICS))
        try:
            weights = trial.published if case.way == "before" else trial.train(case)
            figures_of.update(trial.measure(weights, case.kind))
        except FacekitError as error:
            if "The loss became" not in str(error):
                raise
        figures.add(case, figures_of)
    print(table(figures))
    protocol = f"WIDER of 566 pictures, official protocol at longest side {WIDER_SCALE}"
    print(
        f"{TEMPLATE} from its published weights; AP@0.5 of {HELD_OUT} held-out pictures of that kind at own size; "
        f"{protocol}; means ± half the range of the seeds"
    )


if __name__ == "__main__":
    main()
