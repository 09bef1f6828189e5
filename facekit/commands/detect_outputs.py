"""Where rows go: files of each format, drawn pictures, crops."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from facekit.base.files import check_outputs, check_writable_folder, protecting, real_path, replacing
from facekit.base.options import check_folder_name
from facekit.errors import ArgumentError, FacekitError, Loss
from facekit.pictures.crops import align, crop
from facekit.pictures.draw import draw_faces
from facekit.pictures.inputs import Inputs
from facekit.pictures.video_file import WRITTEN_SUFFIXES as VIDEO_WRITTEN
from facekit.pictures.video_file import check_video_name
from facekit.pictures.write import (
    CUT_SIGNATURE,
    SIGNATURE,
    WRITTEN_SUFFIXES,
    check_picture_name,
    check_replaceable,
    write_picture,
)
from facekit.results.coco import coco_text, count_coco
from facekit.results.csv_file import csv_text, read_csv
from facekit.results.existing import check_replaceable_rows
from facekit.results.json_files import json_text, jsonl_text, read_json, read_jsonl
from facekit.results.parquet import parquet_schema, read_parquet, write_parquet
from facekit.results.row import Row, Run
from facekit.results.wider import check_wider_folder, write_wider
from facekit.results.yolo import check_yolo_folder, write_yolo

if TYPE_CHECKING:
    from facekit.commands.detect import DetectOptions

Rows = Callable[[], Iterable[Row]]
STREAMED = {"json": json_text, "jsonl": jsonl_text, "csv": csv_text}
READERS = {"json": read_json, "jsonl": read_jsonl, "csv": read_csv, "parquet": read_parquet}
STDOUT = "-"


@dataclass
class Outputs:
    """What is asked for; picture() is called for each picture that was looked at, write() once at the end."""

    files: dict[str, Path]  # format -> file
    printed: str | None  # the format that goes to standard output
    yolo: Path | None = None
    wider: Path | None = None
    draw: Path | None = None
    is_draw_file: bool = False
    crops: Path | None = None
    is_aligned: bool = False
    losses: list[Loss] = field(default_factory=list)
    crops_written: int = 0

    def on_disk(self) -> list[Path]:
        """The first is the one that the journal lies beside, or in."""
        return [*self.files.values(), *(path for path in (self.draw, self.yolo, self.wider, self.crops) if path)]

    @property
    def takes_names(self) -> bool:
        """Whether something is written a picture."""
        return any((self.yolo, self.wider, self.draw, self.crops))

    def picture(self, row: Row, image_bgr: NDArray[np.uint8]) -> None:
        """Draws and crops. Raises FacekitError where the disk refuses, and where another's file is in the way."""
        if self.draw is not None:
            target = self.draw if self.is_draw_file else self.draw / _as_written(row.name)
            self._write(row, target, draw_faces(image_bgr, row.faces))
        self.frame(row, image_bgr)

    def video(self, name: str, source: str) -> Path | None:
        """Where a video is drawn to. Raises FacekitError where another's file, or the video itself, is in the way."""
        if self.draw is None or self.is_draw_file:
            return self.draw
        path = PurePosixPath(name)
        target = self.draw / (name if path.suffix.lower() in VIDEO_WRITTEN else str(path.with_suffix(".mp4")))
        with protecting([Path(source)]):
            check_replaceable(target)
        return target

    def frame(self, row: Row, image_bgr: NDArray[np.uint8]) -> None:
        """Crops."""
        if self.crops is None:
            return
        plain = PurePosixPath(row.name).with_suffix("")
        for number, face in enumerate(row.faces):
            if face.is_interpolated:  # nobody has seen it here
                continue
            cut = align(image_bgr, face) if self.is_aligned else crop(image_bgr, face)
            if cut is None:
                self.losses.append(Loss(f"{row.source}, face {number}", "not cut out: it lies outside the picture"))
                continue
            self._write(row, self.crops / f"{plain}_{number}.jpg", cut, CUT_SIGNATURE)
            self.crops_written += 1

    def _write(self, row: Row, target: Path, image_bgr: NDArray[np.uint8], signature: bytes = SIGNATURE) -> None:
        with protecting([Path(row.source)]):  # which a list may name, that is not kept
            check_replaceable(target)
            write_picture(target, image_bgr, signature=signature)

    def text(self, kind: str, rows: Rows, run: Run) -> Iterator[str]:
        """The format's text, in parts."""
        return coco_text(rows, run) if kind == "coco" else STREAMED[kind](rows(), run)

    def write(self, rows: Rows, run: Run, numbered: Mapping[str, str]) -> None:
        """All files, each whole or not at all, and read back. numbered: as of Names. Raises FacekitError where that
        fails."""
        for kind, path in self.files.items():
            with replacing(path) as beside:
                if kind == "parquet":
                    write_parquet(beside, rows(), run)
                else:
                    with beside.open("w", encoding="utf-8", newline="\n") as out:
                        out.writelines(self.text(kind, rows, run))
                _check(kind, beside, rows)
        if self.yolo is not None:
            self.losses += write_yolo(self.yolo, rows(), numbered)
        if self.wider is not None:
            self.losses += write_wider(self.wider, rows(), numbered)


def _check(kind: str, path: Path, rows: Rows) -> None:
    """Raises FacekitError where what was written can't be read back."""
    expected = sum(row.error is None if kind == "coco" else 1 for row in rows())
    found = count_coco(path) if kind == "coco" else sum(1 for _ in READERS[kind](path))
    if found != expected:
        raise FacekitError(f"{path}: {found} of {expected} rows can be read back. Run again, with `resume`.")


def plan_outputs(options: DetectOptions, inputs: Inputs) -> Outputs:
    """Raises ArgumentError for outputs that don't go together, and FacekitError for what can't be written."""
    asked = {kind: getattr(options, kind) for kind in ("jsonl", "json", "csv", "coco", "parquet")}
    given: dict[str, Path] = {kind: path for kind, path in asked.items() if path is not None}
    printed = [kind for kind, path in given.items() if str(path) == STDOUT]
    folders = (options.yolo, options.wider, options.draw, options.crops)
    if not given and not any(folders):
        printed = ["jsonl"]
    outputs = Outputs(
        {kind: path for kind, path in given.items() if kind not in printed}, printed[0] if printed else None,
        options.yolo, options.wider, options.draw, crops=options.crops, is_aligned=options.align,
    )  # fmt: skip
    if options.draw is not None and options.draw.suffix and not options.draw.is_dir():
        if inputs.total != 1:
            raise ArgumentError(
                f"`draw={options.draw}`: a name with a suffix is a file, for a single picture. Give a folder, and make "
                f"it first if {options.draw.name} is to be one."
            )
        if inputs.named and inputs.named[0].kind == "video":
            check_video_name(options.draw)
        else:
            check_picture_name(options.draw)
        check_outputs(inputs.files, [options.draw])
        if not options.resume:
            check_replaceable(options.draw)
        outputs.is_draw_file = True
    _refuse_twins(options)
    for name in ("yolo", "wider", "crops"):
        if (folder := getattr(options, name)) is not None:
            check_folder_name(name, folder)
    if options.resume and not outputs.on_disk():
        raise ArgumentError("`resume` goes on with files that are written: name one.")
    if "parquet" in outputs.files:
        parquet_schema()  # pyarrow is there
    for kind, path in outputs.files.items():
        _check_file(kind, path)
    for folder in folders:
        if folder is not None:
            check_writable_folder(folder.parent if folder is options.draw and outputs.is_draw_file else folder)
    if options.yolo is not None:
        check_yolo_folder(options.yolo)
    if options.wider is not None:
        check_wider_folder(options.wider)
    return outputs


def _refuse_twins(options: DetectOptions) -> None:
    """a.jpg's first crop is a_0.jpg, as another picture's drawing may be; label files meet each other alike."""
    for one, other in (("draw", "crops"), ("yolo", "wider")):
        folder, twin = getattr(options, one), getattr(options, other)
        if folder is None or twin is None:
            continue
        if os.path.normcase(real_path(folder)) == os.path.normcase(real_path(twin)):
            raise ArgumentError(
                f"`{one}` and `{other}` are both {folder}: files of one could take the place of the other's. Give each "
                f"a folder of its own."
            )


def _check_file(kind: str, path: Path) -> None:
    if path.is_dir():
        raise FacekitError(f"{path}: a folder. Give the name of a file in it.")
    check_writable_folder(path.parent)
    check_replaceable_rows(kind, path)


def _as_written(name: str) -> str:
    path = PurePosixPath(name)
    return name if path.suffix.lower() in WRITTEN_SUFFIXES else str(path.with_suffix(".jpg"))
