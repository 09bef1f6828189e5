"""A labelled set without the defects that check finds. Files of pictures are never touched, nor are the old labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekit.datasets.check import Checked, face_defects, name_of
from facekit.errors import FacekitError
from facekit.labels.formats.coco import write_coco
from facekit.labels.picture_labels import MAX_COORDINATE, PictureLabels

PICTURES_DROPPED = (
    "missing-picture",
    "unreadable-picture",
    "truncated-picture",
    "damaged-picture",
    "leak",
    "shared-labels",
    "doubled-picture",
)


@dataclass(frozen=True)
class Cleaned:
    """The labels that are left, and how many were dropped or changed, by kind of defect."""

    pictures: list[PictureLabels]
    pictures_dropped: Counter[str]
    faces_dropped: Counter[str]
    mended: Counter[str]

    def lines(self) -> list[str]:
        """What happened, a kind a line."""
        faces = sum(len(picture.boxes_xywh) for picture in self.pictures)
        return [
            *(f"dropped {count} pictures: {kind}" for kind, count in self.pictures_dropped.items()),
            *(f"dropped {count} faces: {kind}" for kind, count in self.faces_dropped.items()),
            *(f"mended {count}: {kind}" for kind, count in self.mended.items()),
            f"left {len(self.pictures)} pictures, {faces} faces",
        ]


def clean(checked: Checked) -> Cleaned:
    """Drops what can't be used or is there twice; corrects sizes, clips boxes, unlabels stray landmarks.

    A picture that is listed again gives its faces to the first listing. Boxes stay where they are when a size is
    corrected: nobody knows whether the picture was scaled or exchanged.
    """
    result = Cleaned([], Counter(), Counter(), Counter())
    reasons: dict[int, str] = {}
    for finding in checked.findings:
        if finding.kind in PICTURES_DROPPED:
            reasons.setdefault(finding.position, finding.kind)
    listings: dict[Path, list[int]] = {}
    for position, picture in enumerate(checked.pictures):
        listings.setdefault(picture.path, []).append(position)
    for positions in listings.values():
        if positions[0] in reasons:
            result.pictures_dropped[reasons[positions[0]]] += len(positions)
            continue
        if len(positions) > 1:
            result.mended["doubled-label (faces joined)"] += len(positions) - 1
        picture = _join([checked.pictures[position] for position in positions])
        size_wh = checked.sizes_wh[positions[0]]
        if picture.size_wh not in (None, size_wh):
            result.mended["wrong-size (size corrected, boxes as they were)"] += 1
        result.pictures.append(_clean_faces(replace(picture, size_wh=size_wh), result))
    return result


def check_destinations(fix: Path | None, json_file: Path | None, sources: Sequence[Path | None]) -> None:
    """Raises FacekitError where a file to write would take the place of a file that is read, or of the other."""
    # Not Path.resolve, which breaks off at a loop of links: reading the labels says what is wrong with one.
    kept = {os.path.realpath(source) for source in sources if source is not None}
    for name, path in (("fix", fix), ("json", json_file)):
        if path is None:
            continue
        if path.suffix != ".json" or os.path.realpath(path) in kept:
            raise FacekitError(
                f"`{name}={path}`: expected a new .json file, not labels or pictures. Choose another name."
            )
        kept.add(os.path.realpath(path))


def write_cleaned(cleaned: Cleaned, path: Path) -> Path:
    """A COCO json, whole or not at all; returns the data root that it is for, the same as before.

    Raises FacekitError where no picture is left.
    """
    if not cleaned.pictures:
        raise FacekitError(f"{path}: not written, as no picture is left. Is the data root right?")
    write_coco(path, [(name_of(picture), picture) for picture in cleaned.pictures])
    first = cleaned.pictures[0]
    return first.path.parents[len(PurePosixPath(name_of(first)).parts) - 1]


def _join(listings: Sequence[PictureLabels]) -> PictureLabels:
    arrays: dict[str, Any] = {
        field.name: np.concatenate([getattr(listing, field.name) for listing in listings])
        for field in fields(PictureLabels)
        if isinstance(getattr(listings[0], field.name), np.ndarray)
    }
    return replace(listings[0], **arrays)


def _clean_faces(picture: PictureLabels, result: Cleaned) -> PictureLabels:
    picture = _drop_unusable(_unlabel_strays(picture, result), result)
    picture = _clip(picture, result)
    picture = _unlabel_strays(picture, result)  # a clipped box may leave some outside
    defects = face_defects(picture, picture.size_wh)
    result.faces_dropped.update(_some("doubled-box", defects["doubled-box"]))
    return picture.take(~defects["doubled-box"])


def _drop_unusable(picture: PictureLabels, result: Cleaned) -> PictureLabels:
    defects = face_defects(picture, picture.size_wh)
    unusable = np.zeros(len(picture.boxes_xywh), dtype=bool)
    for kind in ("bad-numbers", "empty-box", "box-outside"):
        result.faces_dropped.update(_some(kind, defects[kind]))
        unusable |= defects[kind]
    return picture.take(~unusable)


def _unlabel_strays(picture: PictureLabels, result: Cleaned) -> PictureLabels:
    defects = face_defects(picture, picture.size_wh)
    strays, crossed, partial = (defects[f"landmarks-{kind}"] for kind in ("outside", "crossed", "partial"))
    bad = np.any(np.abs(picture.landmarks_xy) > MAX_COORDINATE, axis=(1, 2))
    result.mended.update(_some("landmarks-outside (landmarks dropped)", strays))
    result.mended.update(_some("landmarks-crossed (landmarks dropped)", crossed))
    result.mended.update(_some("landmarks-partial (landmarks dropped)", partial))
    result.mended.update(_some("bad-numbers (landmarks dropped)", bad))
    dropped = strays | crossed | partial | bad
    return replace(picture, landmarks_xy=np.where(dropped[:, None, None], np.nan, picture.landmarks_xy))


def _clip(picture: PictureLabels, result: Cleaned) -> PictureLabels:
    """Boxes that reach over the edge cut at it; a pixel over it too, though that is no defect."""
    partly = face_defects(picture, picture.size_wh)["box-partly-outside"]
    result.mended.update(_some("box-partly-outside (clipped)", partly))
    width, height = picture.size_wh or (np.inf, np.inf)
    corners = picture.boxes_xyxy
    clipped = np.clip(corners, 0, (width, height, width, height))
    boxes = np.concatenate([clipped[:, :2], clipped[:, 2:] - clipped[:, :2]], axis=1)
    over = (clipped != corners).any(axis=1, keepdims=True)
    return replace(picture, boxes_xywh=np.where(over, boxes, picture.boxes_xywh))


def _some(kind: str, mask: NDArray[np.bool_]) -> dict[str, int]:
    """No entry for what didn't happen."""
    return {kind: int(mask.sum())} if mask.any() else {}
