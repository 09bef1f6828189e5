"""The table of label formats, and reading any of them, recognised by its content."""

from __future__ import annotations

import gc
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from facekit.base.files import note_inputs
from facekit.errors import FacekitError
from facekit.labels.formats.coco import looks_like_coco, read_coco, write_coco
from facekit.labels.formats.cvat_xml import looks_like_cvat, read_cvat
from facekit.labels.formats.fddb import looks_like_fddb, read_fddb
from facekit.labels.formats.labelme import looks_like_labelme, read_labelme
from facekit.labels.formats.labelv2 import looks_like_labelv2, read_labelv2, write_labelv2
from facekit.labels.formats.retinaface_txt import looks_like_retinaface, read_retinaface
from facekit.labels.formats.text_lines import first_lines, shorten
from facekit.labels.formats.voc import looks_like_voc, read_voc, write_voc
from facekit.labels.formats.voc_beside import looks_like_voc_beside, read_voc_beside
from facekit.labels.formats.voc_wider import looks_like_voc_wider, read_voc_wider, write_voc_wider
from facekit.labels.formats.wider_txt import looks_like_wider, read_wider, write_wider
from facekit.labels.formats.yolo import looks_like_yolo, read_yolo, write_yolo, write_yolo_face
from facekit.labels.layout import Named, Parts
from facekit.labels.picture_labels import PictureLabels, Tally

PARTS = ("train", "val", "trainval", "test")
_OTHER_NAMES = {"valid": "val", "validation": "val"}  # of Roboflow's folders
HEAD_LINES = 40


@dataclass(frozen=True)
class Format:
    """One row of the table. A format that is written has either write_file or write_folder."""

    sign: str  # what it is recognised by
    read: Callable[..., list[PictureLabels]]  # (source, data_root, as_written, dropped[, part])
    looks_like: Callable[[Path, list[str]], bool]  # (source, its first lines; none for a folder)
    write_file: Callable[[Path, list[Named]], None] | None = None
    write_folder: Callable[[Path, Parts, str], None] | None = None
    suffix: str = ""  # of a written file
    keeps: frozenset[str] = frozenset()  # of landmarks, attributes, crowds
    needs_size: bool = False  # to write
    states_size: bool = True  # what it writes says how large pictures are
    has_parts: bool = False  # SOURCE:train is read


FORMATS = {  # asked in this order
    "cvat": Format("CVAT for images 1.1: an XML with <annotations>", read_cvat, looks_like_cvat),
    "labelme": Format(
        "labelme: a JSON with shapes, or a folder with one beside each picture", read_labelme, looks_like_labelme,
    ),
    "coco": Format(
        "COCO json: { first; a folder with annotations/*.json or _annotations.coco.json", read_coco, looks_like_coco,
        write_coco, suffix=".json", keeps=frozenset({"landmarks", "attributes", "crowds"}), needs_size=True,
        has_parts=True,
    ),
    "labelv2": Format(
        "labelv2: '# NAME WIDTH HEIGHT' first", read_labelv2, looks_like_labelv2, write_labelv2, suffix=".txt",
        keeps=frozenset({"landmarks"}), needs_size=True,
    ),
    "retinaface": Format("RetinaFace label.txt: '# NAME' first", read_retinaface, looks_like_retinaface),
    "wider": Format(
        "WIDER txt: a picture's name, then a count", read_wider, looks_like_wider, write_wider, suffix=".txt",
        keeps=frozenset({"attributes"}), states_size=False,
    ),
    "voc": Format(
        "VOC: a folder with Annotations and JPEGImages, or a list in its ImageSets/Main", read_voc, looks_like_voc,
        write_folder=write_voc, keeps=frozenset({"landmarks", "crowds"}), needs_size=True, has_parts=True,
    ),
    "voc-wider": Format(
        "VOC, tiny SSD's: a folder with train.txt and WIDER_train/Annotations, or such a list", read_voc_wider,
        looks_like_voc_wider, write_folder=write_voc_wider, keeps=frozenset({"landmarks", "crowds"}),
        needs_size=True, has_parts=True,
    ),
    "voc-beside": Format(
        "VOC with an XML beside each picture: the folder, or one XML", read_voc_beside, looks_like_voc_beside,
        has_parts=True,
    ),
    "yolo": Format(
        "YOLO: a data.yaml, a list of pictures, or a folder with images and labels, or x.txt beside x.jpg",
        read_yolo, looks_like_yolo, write_folder=write_yolo, needs_size=True, states_size=False, has_parts=True,
    ),
    "yolo-face": Format(
        "YOLO with landmarks: the same", read_yolo, looks_like_yolo, write_folder=write_yolo_face,
        keeps=frozenset({"landmarks"}), needs_size=True, states_size=False, has_parts=True,
    ),
    "fddb": Format("FDDB: a name without suffix, then a count", read_fddb, looks_like_fddb),
}  # fmt: skip
WRITTEN = tuple(name for name, row in FORMATS.items() if row.write_file or row.write_folder)


def read_labels(
    source: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None
) -> list[PictureLabels]:
    """Labels of any format in FORMATS.

    source: a file or folder, or FOLDER:train (val, trainval, test) for one list of a format that has several.
    data_root: the folder above the pictures; None: where the format's published layout has it.
    as_written: keep every box and ask for no picture, for checks.
    dropped: counts what is left out, by reason.

    Raises FacekitError with file, line and reason; for what isn't recognised, with what was looked for.
    """
    path, part = split_part(source)
    row = FORMATS[recognise(path)]
    if part is not None and not row.has_parts:
        raise FacekitError(f"{source}: {path} has no lists to choose from. Give the file alone.")
    with _garbage_left():
        pictures = row.read(path, data_root, as_written, dropped, *([] if part is None else [part]))
    note_inputs([path, *(picture.path for picture in pictures)])
    return [replace(picture, source=str(source)) for picture in pictures]


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Millions of small objects and no cycles among them: looking for those takes a quarter of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def recognise(path: Path) -> str:
    """The name of the format, by content. Raises FacekitError where it is none of them."""
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        reason = getattr(error, "strerror", None) or error
        raise FacekitError(f"{path}: the annotation file can't be read ({reason}). Check the path.") from error
    lines = [] if is_folder else first_lines(path, HEAD_LINES)
    for name, row in FORMATS.items():
        if row.looks_like(path, lines):
            return name
    found = f"the first line is {shorten(lines[0])}" if lines else "it is a folder" if is_folder else "it is empty"
    wanted: Sequence[str] = [row.sign for row in FORMATS.values()]
    raise FacekitError(
        f"{path}: no label format is recognised; {found}. Looked for:\n  " + "\n  ".join(wanted) + "\n"
        "Give a file or folder of one of these; for a format of several files, its folder."
    )


def split_part(source: Path) -> tuple[Path, str | None]:
    """data.yaml:val -> data.yaml, val."""
    name, colon, part = source.name.rpartition(":")
    part = _OTHER_NAMES.get(part, part)
    if colon and name and part in PARTS and not source.exists():
        return source.with_name(name), part
    return source, None
