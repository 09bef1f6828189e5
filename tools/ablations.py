"""What is each choice of a recipe worth? Short runs that change one thing each, with several seeds.

    python tools/ablations.py FOLDER [--seeds 0,1,2] [--steps 236] [--detectors ...] [--only 0,1]

Takes FACEKIT_SHARED's WIDER training pictures: some of every event are held out to measure on, the rest is learnt from,
from random weights on batches of 16 crops. Lines go to FOLDER/figures.jsonl; started again it goes on, and several may
run at a time with seeds of their own. Prints the table of docs/training.md: means, and half the range of the seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from trials import Figures, mean_and_spread

import facekit
from facekit.errors import FacekitError
from facekit.labels.formats.coco import read_coco, write_coco
from facekit.labels.picture_labels import PictureLabels
from facekit.template import find_template

HELD_SHARE, HELD_MOST = 0.06, 12  # of an event's pictures
METRICS = ("ap", "ap_50", "ap_h32")
BASE = "the recipe"
TEACHERS = {"yunet-n": "yunet/yunet_n.pth", "ultralight-rfb-320": "ultralight/version-RFB-320.pth"}
SIZES_HW = {"yunet-n": [256, 256], "ultralight-rfb-320": [240, 320]}
TRAINING: dict[str, Any] = {
    "optimizer": {"kind": "adamw", "weight_decay": 1e-3},
    "batch_size": 16,
    "base_learning_rate": 0.01,
    "epochs": 1,
    "warmup_iterations": 50,
    "warmup_start": 0.001,
    "schedule": {"kind": "cosine", "final_factor": 0.01},
    "ema_decay": 0.98,
}
AUGMENTATION: dict[str, Any] = {
    "min_face_size": 4,
    "photometric": {
        "brightness_delta": 16, "contrast": [0.75, 1.25], "saturation": [0.75, 1.25], "hue_delta": 9,
    },
    "crop": {
        "kind": "face_sized", "least": 7, "most": 200, "least_zoom": 0.5, "most_zoom": 3,
        "empty_crop_probability": 0.1,
    },
    "flip_probability": 0.5,
}  # fmt: skip
FLAGS = {"balance_folders": 0.5}
TEACHER_WEIGHT = 10.0


@dataclass(frozen=True)
class Change:
    """What a run has in place of the recipe's."""

    training: dict[str, Any] = field(default_factory=dict)
    augmentation: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)  # of the model
    flags: dict[str, Any] = field(default_factory=dict)
    has_teacher: bool = True
    own_priors: bool = False


EVERYWHERE = {
    BASE: Change(),
    "labels alone, without the teacher": Change(has_teacher=False),
    "SGD, momentum 0.9, in place of AdamW": Change(
        {"optimizer": {"kind": "sgd", "momentum": 0.9, "weight_decay": 5e-4}}
    ),
    "the rate stays, in place of half a cosine": Change(
        {"schedule": {"kind": "step", "milestones": [], "factor": 0.1}}
    ),
    "the last step's weights in place of their average": Change({"ema_decay": None}),
    "squares of 0.3 to 1 of a picture in place of crops by the size of faces": Change(
        augmentation={
            "crop": {"kind": "jittered_square", "least": 0.3, "most": 1.0, "attempts": 250, "empty_crop_probability": 0}
        }
    ),
    "no crops without a face": Change(augmentation={"crop": AUGMENTATION["crop"] | {"empty_crop_probability": 0}}),
    "no change of colours": Change(augmentation={"photometric": None}),
    "events as they are in place of balanced ones": Change(flags={"balance_folders": 0.0}),
}
OF_SSD = {
    BASE: Change(),
    "labels alone, without the teacher": Change(has_teacher=False),
    "labels alone, and priors by `facekit priors`": Change(has_teacher=False, own_priors=True),
    "labels alone, and 20 priors of each crop at least that learn background": Change(
        options={"least_negatives": 20}, has_teacher=False
    ),
}
CHANGES = {"yunet-n": EVERYWHERE, "ultralight-rfb-320": OF_SSD}


class Case(NamedTuple):
    detector: str
    change: str
    seed: int


def split(pictures: list[PictureLabels]) -> tuple[list[PictureLabels], list[PictureLabels]]:
    """Those to learn from and those to measure on, the same at each call."""
    events: dict[str, list[PictureLabels]] = defaultdict(list)
    for picture in pictures:
        events[picture.path.parent.name].append(picture)
    parts: tuple[list[PictureLabels], list[PictureLabels]] = ([], [])
    for event in sorted(events):
        group = sorted(events[event], key=lambda picture: picture.path.name)
        held = set(np.random.default_rng(0).permutation(len(group))[: min(HELD_MOST, round(HELD_SHARE * len(group)))])
        for place, picture in enumerate(group):
            parts[place in held].append(picture)
    return parts


class Trial:
    def __init__(self, folder: Path, shared: Path, steps: int) -> None:
        self.folder, self.steps, self.weights = folder, steps, shared / "weights"
        wider = shared / "data" / "widerface"
        self.root = wider
        folder.mkdir(parents=True, exist_ok=True)
        self.train_file, self.held_file = folder / "train.json", folder / "held.json"
        if not self.held_file.is_file():
            pictures = read_coco(wider / "train.json", wider / "WIDER_train" / "images")
            pictures += read_coco(wider / "train_more.json", wider / "WIDER_train_more" / "images")
            for path, part in zip((self.train_file, self.held_file), split(pictures), strict=True):
                write_coco(path, [(str(picture.path.relative_to(wider)), picture) for picture in part])

    def template(self, case: Case, change: Change, folder: Path) -> Path:
        content = yaml.safe_load(find_template(case.detector).read_text(encoding="utf-8"))
        content["input"]["size_hw"] = SIZES_HW[case.detector]
        content["training"] |= TRAINING | change.training
        content["augmentation"] = AUGMENTATION | change.augmentation
        content["model"]["options"] |= change.options
        path = folder / "template.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        if change.own_priors:
            facekit.priors(self.train_file, template=str(path), data_root=self.root, output=folder / "priors.yaml")
            return folder / "priors.yaml"
        return path

    def run(self, case: Case) -> dict[str, float | None]:
        """None of each where the training diverged."""
        change = CHANGES[case.detector][case.change]
        name = f"{case.detector}-{list(CHANGES[case.detector]).index(case.change)}-{case.seed}"
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        template = self.template(case, change, folder)
        flags = FLAGS | change.flags
        if change.has_teacher:
            flags |= {
                "teacher": self.weights / TEACHERS[case.detector],
                "teacher_template": case.detector,
                "teacher_weight": TEACHER_WEIGHT,
            }
        try:
            done = facekit.train(
                str(template), train_ann_files=(self.train_file,), train_data_roots=(self.root,),
                save_checkpoints_to=folder / "run", gpu_num=0, workers=1, seed=case.seed, from_scratch=True,
                max_iterations=self.steps, **flags,
            )  # fmt: skip
        except FacekitError as error:
            if "The loss became" not in str(error):
                raise
            return dict.fromkeys(METRICS)
        measured = facekit.evaluate(
            str(template), done, test_ann_files=(self.held_file,), test_data_roots=(self.root,), threads=1
        )
        assert measured is not None
        return {key: float(measured.record.metric(key).value) for key in METRICS}  # type: ignore[union-attr]


def table(figures: Figures) -> str:
    rows = ["| | AP@[.5:.95] | AP@0.5 | AP@0.5 over 32 pixels | seeds |", "| --- | --- | --- | --- | --- |"]
    groups = figures.groups(("detector", "change"))
    for detector, change in sorted(groups, key=lambda key: (key[0], list(CHANGES[key[0]]).index(key[1]))):
        group = groups[detector, change]
        cells = " | ".join(mean_and_spread([line[key] for line in group]) for key in METRICS)
        rows.append(f"| {detector}: {change} | {cells} | {len(group)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=236, help="at most one pass over the pictures")
    parser.add_argument("--detectors", default=",".join(CHANGES))
    parser.add_argument("--only", default="", help="numbers of changes, 0 the recipe itself; all where empty")
    flags = parser.parse_args()
    trial = Trial(flags.folder.resolve(), Path(os.environ.get("FACEKIT_SHARED", "../shared")).resolve(), flags.steps)
    figures = Figures(trial.folder)
    for seed in map(int, flags.seeds.split(",")):
        for detector in flags.detectors.split(","):
            chosen = list(CHANGES[detector])
            if flags.only:
                chosen = [chosen[int(number)] for number in flags.only.split(",")]
            for change in chosen:
                case = Case(detector, change, seed)
                if not figures.has(case):
                    figures.add(case, trial.run(case))
    print(table(figures))
    learnt, held = (len(json.loads(path.read_text())["images"]) for path in (trial.train_file, trial.held_file))
    crops = TRAINING["batch_size"]
    print(
        f"{min(flags.steps, math.ceil(learnt / crops))} steps of {crops} crops from random weights; {held} held-out "
        f"pictures, each detector's own protocol"
    )


if __name__ == "__main__":
    main()
