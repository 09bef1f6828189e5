"""Shows that every template learns: python tools/verify_overfit.py [--templates NAME,...]

Each network, from random weights, learns eight of the shared WIDER FACE training pictures by heart, without
augmentation, in at most 400 iterations of the whole eight; bar: AP50 0.9 on the faces that its priors cover, others
being ignored. Covered: for hand-chosen priors, IoU 0.35 with some prior; for the others, as tall and wide as the
finest stride. The two largest networks run on smaller pictures and may show a falling loss in place of the bar.
Needs the folder FACEKIT_SHARED or ../shared.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facekit.cli import run_command
from facekit.detector import Detector
from facekit.feed import prepare
from facekit.labels.formats.coco import read_coco
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.memory import keep_freed_memory
from facekit.metrics.coco import coco_ap
from facekit.models import build_model
from facekit.models.detector_network import DetectorNetwork
from facekit.ops.boxes import cxcywh_to_xyxy, pairwise_iou
from facekit.ops.pixels import normalise
from facekit.pictures.read import read_picture
from facekit.structures import Priors, Targets
from facekit.targets.pytorch import PyTorchBackend
from facekit.template import TEMPLATES_DIR, Template, find_template, load_template
from facekit.training_data.training_set import collate
from facekit.training_data.transforms import LabelledImage

PROJECT = Path(__file__).resolve().parent.parent
WIDER = Path(os.environ.get("FACEKIT_SHARED", PROJECT.parent / "shared")) / "data" / "widerface"
# Input and iterations of the networks that are too large to learn at their own size on a CPU.
LARGE = {"face-detection-0206": ((96, 96), 100), "retinaface-efficientnet-b0": ((320, 320), 400)}
PICTURES = 8
BAR = 0.9
CHECK_EVERY = 50
LEARNING_RATE = 1e-3
COVERED_IOU = 0.35


@click.command()
@click.option("--templates", help="Only these, comma-separated.")
@click.option("--iterations", default=400, show_default=True)
def main(templates: str | None, iterations: int) -> None:
    """Print the course of each template; exit code 1 where one misses the bar."""
    keep_freed_memory()
    names = templates.split(",") if templates else sorted(p.parent.name for p in TEMPLATES_DIR.glob("*/template.yaml"))
    results = [overfit(load_template(find_template(name)), iterations) for name in names]
    click.echo("all bars met" if all(results) else "SOME BARS MISSED")
    sys.exit(not all(results))


def chosen_pictures() -> list[PictureLabels]:
    """Eight pictures of different events, with one to eight faces each, all 16 pixels and more."""
    chosen: dict[str, PictureLabels] = {}
    for picture in read_coco(WIDER / "train.json", WIDER / "WIDER_train" / "images"):
        sizes = picture.boxes_xywh[:, 2:]
        if 1 <= len(sizes) <= 8 and sizes.min() >= 16:
            chosen.setdefault(picture.path.parent.name, picture)
    return list(chosen.values())[:PICTURES]


def overfit(template: Template, iterations: int) -> bool:
    torch.manual_seed(0)
    iterations = min(iterations, LARGE.get(template.name, (None, iterations))[1])
    template = fixed_size(template)
    network = build_model(template).to(memory_format=torch.channels_last)
    pixels, targets = collate([feed(picture, template) for picture in chosen_pictures()])
    images = normalise(pixels, template.input).contiguous(memory_format=torch.channels_last)
    priors = network.head.priors(template.input.size_hw).tensors()
    covered = covered_faces(targets, network, priors)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [iterations * 3 // 4])
    started, course, ap = time.perf_counter(), [], 0.0
    for iteration in range(1, iterations + 1):
        network.train()
        loss = cast(Tensor, sum(network.losses(network(images), targets, priors).values()))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        course.append(float(loss.detach()))
        if iteration % CHECK_EVERY == 0:
            ap = ap50(network, template, pixels.permute(0, 2, 3, 1).numpy(), targets, covered)
            if ap >= BAR:
                break
    tenths = [float(np.mean(part)) for part in np.array_split(course, 10)]
    falls = template.name in LARGE and tenths[-1] < 0.5 * tenths[0]
    height, width = template.input.size_hw
    click.echo(
        f"{template.name:<32} {width}x{height}  AP50 {ap:.3f} on {int(covered.sum())} covered of {len(covered)} faces "
        f"after {len(course)} iterations (bar {BAR}); loss {course[0]:.2f} -> {course[-1]:.2f}, by tenths "
        f"{' '.join(f'{mean:.2f}' for mean in tenths)}; {time.perf_counter() - started:.0f} s"
    )
    return ap >= BAR or falls


def fixed_size(template: Template) -> Template:
    """The template at one input size: pictures of any size are fitted into the training's."""
    rule, settings = template.evaluation, template.input
    if rule.resize != "stretch":
        rule = dataclasses.replace(rule, resize="letterbox")
    if template.name in LARGE:
        settings = dataclasses.replace(settings, size_hw=LARGE[template.name][0])
    return dataclasses.replace(template, evaluation=rule, input=settings)


def feed(picture: PictureLabels, template: Template) -> LabelledImage:
    """The picture as the network gets it, and its faces there."""
    image_bgr, scale_xy = prepare(read_picture(picture.path), template)
    scale = np.array(scale_xy, dtype=np.float32)
    boxes_xyxy = (picture.boxes_xyxy / np.tile(scale, 2)).astype(np.float32)
    return LabelledImage(image_bgr, boxes_xyxy, (picture.landmarks_xy / scale).astype(np.float32))


def covered_faces(targets: Targets, detector_network: DetectorNetwork, priors: Priors) -> NDArray[np.bool_]:
    """(N,) whether a face can be expected to be found."""
    if detector_network.head.scoring == "softmax":
        best = pairwise_iou(targets.boxes_xyxy, cxcywh_to_xyxy(priors.cxcywh)).amax(dim=1)
        return np.asarray(best >= COVERED_IOU)
    sides = targets.boxes_xyxy[:, 2:] - targets.boxes_xyxy[:, :2]
    return (sides.amin(dim=1) >= detector_network.head.strides[0]).numpy()


def ap50(
    network: nn.Module, template: Template, images_bgr: NDArray[Any], targets: Targets, covered: NDArray[np.bool_]
) -> float:
    """AP at IoU 0.5 over the covered faces, as COCO defines it; the others count neither way."""
    detector = Detector(PyTorchBackend(network.eval(), template))
    found = {
        picture: (faces.boxes_xyxy, faces.scores)
        for picture, faces in enumerate(detector.detect_batch(list(images_bgr)))
    }
    corners = targets.boxes_xyxy.numpy()
    boxes_xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).astype(float)
    annotations = [
        {
            "id": index + 1, "image_id": int(picture), "category_id": 1, "bbox": box.tolist(),
            "area": float(box[2] * box[3]), "iscrowd": int(not known),
        }
        for index, (box, picture, known) in enumerate(zip(boxes_xywh, targets.picture_index, covered, strict=True))
    ]  # fmt: skip
    truth = {
        "images": [{"id": picture} for picture in range(len(images_bgr))],
        "categories": [{"id": 1, "name": "face"}],
        "annotations": annotations,
    }
    return coco_ap(truth, found, category_id=1, iou_thresholds=(0.5,))


if __name__ == "__main__":
    run_command(main)
