"""From the published archives, unpacked, to the layouts that trainers and our own commands read.

DST/wider_face_split/wider_face_train_bbx_gt.txt       as published
DST/WIDER_train/images/0--Parade/0_Parade_x.jpg        as published
DST/labelv2/train/labelv2.txt, DST/labelv2/val/gt      libfacedetection's
DST/WIDER_train/Annotations/0_Parade_x.xml, train.txt  tiny SSD's, which looks for its pictures in
DST/WIDER_train/0--Parade/0_Parade_x.jpg               hard links, where the disk has those

DST/FDDB-folds, DST/originalPics                       as published
DST/FDDB-ellipses.txt                                  the ten folds in one
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facekit.base.files import write_text
from facekit.datasets.convert import with_sizes
from facekit.errors import FacekitError
from facekit.labels.formats import read_labels
from facekit.labels.formats.labelv2 import write_labelv2
from facekit.labels.formats.text_lines import read_lines
from facekit.labels.formats.voc_wider import add_voc_wider
from facekit.labels.layout import Named
from facekit.labels.picture_labels import PictureLabels

log = logging.getLogger(__name__)

WIDER_PARTS = ("train", "val")  # those with labels
FDDB_LABELS = "FDDB-ellipses.txt"


def check_landmarks(labels: Path) -> None:
    """Raises FacekitError for labels without any landmarks: asked before hours of downloading."""
    if not any(np.isfinite(picture.landmarks_xy).all(axis=(1, 2)).any() for picture in read_labels(labels, None, True)):
        raise FacekitError(f"{labels}: expected labels with five landmarks a face, got none. Leave `landmarks` out.")


def arrange_widerface(destination: Path, parts: Sequence[str] = WIDER_PARTS, landmarks: Path | None = None) -> str:
    """Writes the labels that aren't there yet; returns what there is, and what to do with it.

    landmarks: labels of the training pictures, of any format, to take in place of the published ones, which have none.
    """
    lines = []
    for part in parts:
        images = destination / f"WIDER_{part}" / "images"
        labelv2 = destination / "labelv2" / part / "labelv2.txt"
        given = landmarks if part == "train" else None
        if given is not None or not labelv2.is_file():
            source = given or destination / "wider_face_split" / f"wider_face_{part}_bbx_gt.txt"
            write_labelv2(labelv2, with_sizes(_named(read_labels(source, images))))
        pictures = read_labels(labelv2, images)
        if given is not None or not (destination / f"{part}.txt").is_file():
            add_voc_wider(destination, {part: _named(pictures)}, "link" if _has_links(destination) else "none")
        lines.append(f"  {part:<6} {_counts(pictures)}: {labelv2}, {destination / part}.txt")
    if (destination / "WIDER_test").is_dir():
        lines.append(f"  test   without labels: {destination / 'WIDER_test'}")
    template = "facekit {} --template yunet-n"
    lines += ["Next:", f"  {template.format('eval')} --load-weights WEIGHTS --wider-dir {destination}"]
    if "train" in parts:
        lines.append(
            f"  {template.format('train')} --save-checkpoints-to OUTPUTS --train-ann-files "
            f"{destination / 'labelv2' / 'train' / 'labelv2.txt'} --val-ann-files "
            f"{destination / 'labelv2' / 'val' / 'labelv2.txt'}"
        )
    return "\n".join([f"{destination} holds", *lines])


def arrange_fddb(destination: Path) -> str:
    """Puts the folds together; returns what there is, and what to do with it."""
    labels = destination / FDDB_LABELS
    if not labels.is_file():
        folds = sorted((destination / "FDDB-folds").glob("FDDB-fold-*-ellipseList.txt"))
        if not folds:
            raise FacekitError(f"{destination / 'FDDB-folds'}: expected FDDB-fold-*-ellipseList.txt, got no such file.")
        write_text(labels, "".join(f"{text}\n" for fold in folds for _, text in read_lines(fold) if text))
    return "\n".join([
        f"{destination} holds", f"  {_counts(read_labels(labels))}: {labels}", "Next:",
        f"  facekit eval --template yunet-n --load-weights WEIGHTS --test-ann-files {labels}",
        f"  facekit data convert {labels} fddb.json --to coco",
    ])  # fmt: skip


def _named(pictures: Sequence[PictureLabels]) -> list[Named]:
    return [(picture.name or picture.path.name, picture) for picture in pictures]


def _counts(pictures: Sequence[PictureLabels]) -> str:
    faces = sum(len(picture.boxes_xywh) for picture in pictures)
    marked = sum(int(np.isfinite(picture.landmarks_xy).all(axis=(1, 2)).sum()) for picture in pictures)
    return f"{len(pictures)} pictures, {faces} faces" + (f", {marked} with landmarks" if marked else "")


def _has_links(folder: Path) -> bool:
    """Whether hard links can be made there: copies would double the room that the pictures take."""
    probe = folder / f".link-test-{os.getpid()}"
    beside = probe.with_suffix(".link")
    try:
        probe.touch()
        os.link(probe, beside)
    except OSError:
        log.warning("%s: no hard links there, so no event folders beside the Annotations; facekit needs none.", folder)
        return False
    finally:
        probe.unlink(missing_ok=True)
        beside.unlink(missing_ok=True)
    return True
