"""YOLO: a text file a picture, `labels/a/x.txt` beside `images/a/x.jpg`, a face a line, in fractions of the picture.

0 0.498 0.292 0.119 0.108
0 0.498 0.292 0.119 0.108 0.477 0.270 0.529 0.272 0.503 0.298 0.474 0.307 0.526 0.312

class, centre x, centre y, width, height; then, as yolov5-face has it, x and y of five landmarks, -1 where they aren't
labelled, or, as Ultralytics' pose has it, x, y and v of them, v 0 where they aren't; or a polygon (yolo_rows.py). Give
a data.yaml, data.yaml:train for one of its sets, a list of pictures, a folder with images/ and labels/, or one with
x.txt beside x.jpg, where labelImg's classes.txt names the classes.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from facekit.base.files import is_passed_over, real_path, sync_disk, write_text
from facekit.base.progress import progress_bar
from facekit.errors import FacekitError
from facekit.labels.formats.text_lines import (
    first_lines,
    in_any_letters,
    is_file,
    is_picture_name,
    malformed,
    read_lines,
)
from facekit.labels.formats.yolo_rows import Row, are_corners, faces_of, read_rows
from facekit.labels.formats.yolo_yaml import PARTS, DataYaml, read_data_yaml
from facekit.labels.layout import (
    Parts,
    bring_picture,
    check_no_others,
    check_unique,
    known_size,
    take_lists_away,
    without_suffix,
)
from facekit.labels.picture_labels import PictureLabels, Tally, finish_reading, picture_path, where_to_look
from facekit.labels.picture_paths import PictureFinder
from facekit.labels.values import face_names, say_only_kind
from facekit.pictures.read import picture_size

log = logging.getLogger(__name__)

DECIMALS = 6  # of a pixel: what the ten digits that we write carry, so that whole pixels stay whole


def looks_like_yolo(source: Path, lines: list[str]) -> bool:
    """A folder with images/ or with label files beside pictures, the content of a data.yaml, or a list of pictures."""
    if source.is_dir():
        has_own = (source / "data.yaml").is_file() or (source / "images").is_dir() or source.name == "images"
        return has_own or _has_labels_beside(source)
    return _is_yaml(lines) or (bool(lines) and all(is_picture_name(line) for line in lines[:2]) and lines[0][0] != "#")


def read_yolo(
    source: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None,
    part: str | None = None,
) -> list[PictureLabels]:  # fmt: skip
    """Pictures in the lists' order, folders by name; a picture without a label file has no faces, with a warning.

    data_root: what the paths in data.yaml and in lists are relative to, where it isn't their folder; of a folder, which
    has its own pictures, that folder or one above it.
    Raises FacekitError with file and line.
    """
    listed = DataYaml(data_root or source.parent, data_root or source.parent, [source])
    if source.is_dir() and not (source / "data.yaml").is_file():
        root, folder = data_root or source, source / "images" if (source / "images").is_dir() else source
        listed = DataYaml(root, root, [picture_path(folder, part or "", str(source))])
    elif source.is_dir() or source.suffix in (".yaml", ".yml"):
        listed = read_data_yaml(source / "data.yaml" if source.is_dir() else source, data_root, part)
    # A picture in two lists is one picture.
    finder = PictureFinder(source, listed.root)
    pictures = dict(item for place in listed.places for item in _expand(place, finder, str(source)))
    finder.finish()
    if not pictures:
        raise FacekitError(f"{source}: no picture is listed; there is nothing to train or to measure on.")
    pictures, root = _below_one_root(pictures, listed)
    if (outside := next((picture for picture in pictures if not picture.is_relative_to(root)), None)) is not None:
        raise FacekitError(
            f"{source}: its own pictures lie outside the data root {root} (first: {outside}). Give the folder itself, "
            f"or one above it, as data root, or none."
        )
    return _read_all(pictures, source, root, listed, as_written, dropped)


def write_yolo(destination: Path, parts: Parts, pictures: str) -> None:
    """Boxes alone. Lists and data.yaml come last, so that they name whole pairs."""
    _write(destination, parts, pictures, landmarks=False)


def write_yolo_face(destination: Path, parts: Parts, pictures: str) -> None:
    """With landmarks."""
    _write(destination, parts, pictures, landmarks=True)


def label_file(picture: Path) -> Path:
    """Where a picture's labels are: the last folder `images` in its path is `labels`; without any, beside it."""
    parts = list(picture.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _is_yaml(lines: list[str]) -> bool:
    return any(re.match(r"(train|val|test)\s*:", line) for line in lines)


def _has_labels_beside(folder: Path) -> bool:
    """By the first label file beside a picture that isn't empty."""
    for picture in folder.iterdir():
        file = in_any_letters(picture.with_suffix(".txt"))
        if is_picture_name(picture.name) and file.is_file() and (lines := first_lines(file, 1)):
            return re.fullmatch(r"\d+(\s+-?\d[\d.e+-]*){4,}", lines[0]) is not None
    return False


def _listed_names(folder: Path) -> dict[int, str]:
    """The classes' names that labelImg writes beside its label files, a line each. Asked only where several classes are
    labelled: labelImg and others list more than a set has."""
    file = folder / "classes.txt"
    return {line - 1: name.lower() for line, name in read_lines(file) if name} if file.is_file() else {}


def _below_one_root(pictures: dict[Path, str], listed: DataYaml) -> tuple[dict[Path, str], Path]:
    """The pictures and the folder above them all, where a set may lie beside data.yaml's folder."""
    if all(picture.is_relative_to(listed.root) for picture in pictures):
        return pictures, listed.root
    root, top = (Path(os.path.normpath(folder.absolute())) for folder in (listed.root, listed.top))
    pictures = {Path(os.path.normpath(picture.absolute())): where for picture, where in pictures.items()}
    return pictures, root if all(picture.is_relative_to(root) for picture in pictures) else top


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if is_picture_name(file.name) and not is_passed_over(file))


def _expand(path: Path, finder: PictureFinder, where: str) -> Iterator[tuple[Path, str]]:
    """Pictures of a folder or of a list, and where they are named."""
    if path.is_dir():
        yield from ((file, where) for file in _pictures_in(path))
        return
    if not path.is_file():
        raise FacekitError(
            f"{where}: {path} is neither a folder of pictures nor a list of them. Mend the path, or "
            f"give the folder that it is relative to as data root."
        )
    root = finder.root.absolute()
    for line, name in read_lines(path):
        if not name:
            continue
        if not is_picture_name(name):
            raise malformed(path, line, "the path of a picture", name)
        inside = Path(name).is_relative_to(root) and ".." not in Path(name).parts
        name = Path(name).relative_to(root).as_posix() if inside else name
        yield finder.find(name, f"{path}:{line}")[0], f"{path}:{line}"


def _read_all(
    pictures: dict[Path, str], source: Path, root: Path, listed: DataYaml, as_written: bool, dropped: Tally | None
) -> list[PictureLabels]:
    numbered: list[list[tuple[int, Row]]] = []
    files: list[Path] = []
    without: list[Path] = []
    for picture in progress_bar(pictures, desc=source.name, unit="picture", delay_s=2):
        file = in_any_letters(label_file(picture))
        if not file.is_file() and (beside := in_any_letters(picture.with_suffix(".txt"))).is_file():
            file = beside
        if not file.exists():
            without.append(picture)
        numbered.append(read_rows(file) if file.exists() else [])
        files.append(file)
    if len(without) == len(pictures):
        if not any(map(is_file, pictures)):
            raise FacekitError(
                f"{source}: none of {len(pictures)} pictures is on the disk, nor a label file; the first would be "
                f"{without[0]}. {where_to_look(root, '')}"
            )
        raise FacekitError(
            f"{source}: none of {len(pictures)} pictures has a label file; the first would be {files[0]}. "
            f"Labels are at labels/x.txt beside images/x.jpg."
        )
    if without:
        log.warning("%s: %d pictures without a label file: no faces (first: %s).", source, len(without), without[0])
    _say_shared(list(pictures), files, source)
    rows = faces_of(files, numbered, listed.kpt_shape, str(source), listed.kpt_names, as_written)
    lines = [[line for line, _ in each] for each in numbered]
    face_classes = _face_classes(rows, listed.names, source)
    if face_classes is not None:
        for index in range(len(rows)):
            keep = np.isin(rows[index][:, 0], face_classes)
            rows[index], lines[index] = rows[index][keep], np.array(lines[index], int)[keep].tolist()
    _check_no_corners(np.concatenate(rows)[:, 1:5], source, as_written)
    labels = []
    for index, picture in enumerate(pictures):
        labels.append(_to_labels(picture, root, rows[index], as_written))
    labels = _without_set(labels, source, root)
    places = list(pictures.values())

    def locate(picture: int, face: int | None) -> str:
        return places[picture] if face is None else f"{files[picture]}:{lines[picture][face]}"

    return finish_reading(labels, source, root, locate, dropped, as_written, were_fractions=True)


def _check_no_corners(boxes: NDArray[np.float64], source: Path, as_written: bool) -> None:
    if not are_corners(boxes):
        return
    text = (
        f"{source}: as centre x, centre y, width, height many boxes would reach far outside their pictures, as x1, y1, "
        f"x2, y2 nearly all lie in them: are they corners? Write centre and size, in fractions."
    )
    if not as_written:
        raise FacekitError(f"{text} If they are just that, `facekit data check LABELS --fix NEW.json` clips them.")
    log.warning("%s", text)


def _say_shared(pictures: list[Path], files: list[Path], source: Path) -> None:
    """Warns where a.jpg and a.png have but one a.txt."""
    first: dict[Path, Path] = {}
    others = [
        (picture, file)
        for picture, file in zip(pictures, files, strict=True)
        if first.setdefault(file, picture) is not picture and file.exists()
    ]
    if others:
        picture, file = others[0]
        log.warning(
            "%s: %d pictures have no label file of their own, and get the faces of another picture (first: %s and %s "
            "share %s). Rename them, and give each its labels.",
            source, len(others), first[file].name, picture.name, file,
        )  # fmt: skip


def _face_classes(rows: list[NDArray[np.float64]], names: dict[int, str], source: Path) -> list[int] | None:
    """The classes to read, several where names are alike but for capitals; None: there is but one, so all."""
    classes = {int(number) for array in rows for number in array[:, 0]}
    if len(classes | set(names)) < 2:
        for name in names.values():
            say_only_kind(name, str(source))
        return None
    names = names or _listed_names(source)
    faces = face_names(names.values())
    wanted = [number for number, name in names.items() if name in faces]
    if not wanted and classes:
        found = ", ".join(f"{number} ({names.get(number, 'no name')})" for number in sorted(classes))
        raise FacekitError(
            f"{source}: several classes and none named 'face': {found}. Name it in data.yaml's names, or in "
            f"a classes.txt beside the labels."
        )
    if wanted and classes - set(wanted):
        others = ", ".join(str(number) for number in sorted(classes - set(wanted)))
        read = ", ".join(map(str, wanted))
        log.warning("%s: only the class %s, 'face', is read; left alone: %s.", source, read, others)
    return wanted or None


def _to_labels(picture: Path, root: Path, rows: NDArray[np.float64], as_written: bool) -> PictureLabels:
    size_wh = None
    try:
        size_wh = picture_size(picture) if picture.is_file() else None
    except FacekitError:
        if not as_written:
            raise
    size = np.array(size_wh or (1, 1), np.float64)
    wh = rows[:, 3:5] * size
    boxes_xywh = np.concatenate([rows[:, 1:3] * size - wh / 2, wh], axis=1)
    points = rows[:, 5:].reshape(-1, 5, 2)
    landmarks_xy = (points * size).round(DECIMALS)
    landmarks_xy[np.abs(points + 1).sum(axis=2) == 0] = np.nan
    folder = root / "images" if picture.is_relative_to(root / "images") else root
    return PictureLabels(
        path=picture,
        size_wh=size_wh,
        boxes_xywh=boxes_xywh.round(DECIMALS),
        landmarks_xy=landmarks_xy,
        is_crowd=np.zeros(len(rows), bool),
        name=picture.relative_to(folder).as_posix(),
    )


def _without_set(labels: list[PictureLabels], source: Path, root: Path) -> list[PictureLabels]:
    """Names without the folder train, val or test where all are in the same one. Where that folder, or one in it, is
    the source, they stay as they are: below the data root that was given."""
    first = {(picture.name or "").partition("/")[0] for picture in labels}
    if len(first) != 1 or not first <= set(PARTS) or any("/" not in (picture.name or "") for picture in labels):
        return labels
    is_plain = source.is_dir() and not (source / "data.yaml").is_file()
    if is_plain and real_path(source).is_relative_to(real_path(root / first.pop())):
        return labels
    return [replace(picture, name=(picture.name or "").partition("/")[2]) for picture in labels]


def _write(destination: Path, parts: Parts, pictures: str, landmarks: bool) -> None:
    for named in parts.values():
        check_unique({name: f"{without_suffix(name)}.txt" for name, _ in named})
    lists = {part: f"{part}.txt" for part in parts}
    check_no_others(destination, [f"{part}.txt" for part in PARTS], lists.values())
    _check_none_moved(destination, parts)
    take_lists_away(destination, lists.values())
    clipped = 0
    for part, named in parts.items():
        for name, labels in progress_bar(named, desc=part, unit="picture", delay_s=2):
            rows, changed = _to_rows(labels, landmarks)
            clipped += changed
            text = "".join("0 " + " ".join(f"{v:.10g}" for v in row) + "\n" for row in rows.tolist())
            picture = destination / "images" / part / name
            # Where readers look for it: of a name with a folder `images` in it that is not labels/ of the set.
            write_text(label_file(picture), text, sync=False)
            bring_picture(labels.path, picture, pictures)
    sync_disk()
    for part, named in parts.items():
        write_text(destination / lists[part], "".join(_list_lines(part, named)))
    content: dict[str, Any] = {**lists, "nc": 1, "names": ["face"]}
    if landmarks:
        content["kpt_shape"] = [5, 2]
    write_text(destination / "data.yaml", yaml.safe_dump(content, sort_keys=False))
    if clipped:
        log.warning("%s: %d faces clipped to their picture, as YOLO's trainers demand.", destination.name, clipped)


def _check_none_moved(destination: Path, parts: Parts) -> None:
    """Raises FacekitError for pictures that an earlier set there has in another part: readers of folders would learn
    from them and measure on them."""
    named = [(part, name) for part, each in parts.items() for name, _ in each]
    written = {label_file(Path("images", part, name)) for part, name in named}
    elsewhere = {label_file(Path("images", part, name)) for _, name in named for part in PARTS} - written
    moved = sorted(file for file in elsewhere if is_file(destination / file))
    if moved:
        raise FacekitError(
            f"{destination}: holds files of another data set, with some of this one's pictures in other parts "
            f"({len(moved)}, first: {moved[0]}): they would be learnt from and measured on. Give another folder, or "
            f"delete this one if nobody needs it."
        )


def _list_lines(part: str, named: Any) -> Iterator[str]:
    for name, _ in named:
        yield f"./images/{part}/{name}\n"


def _to_rows(labels: PictureLabels, landmarks: bool) -> tuple[NDArray[np.float64], int]:
    """(N, 4) or (N, 14) fractions, and how many faces had to be clipped."""
    size = np.array(known_size(labels), np.float64)
    corners = labels.boxes_xyxy.reshape(-1, 2, 2) / size
    inside = corners.clip(0, 1)
    points = labels.landmarks_xy / size
    points_inside = points.clip(0, 1)
    changed = (inside != corners).any(axis=(1, 2))
    rows = [(inside[:, 0] + inside[:, 1]) / 2, inside[:, 1] - inside[:, 0]]
    if landmarks:
        labelled = np.isfinite(points).reshape(-1, 10).all(axis=1)
        changed = changed | (labelled & (points_inside != points).any(axis=(1, 2)))
        rows.append(np.where(labelled.reshape(-1, 1), points_inside.reshape(-1, 10), -1.0))
    return np.concatenate(rows, axis=1), int(changed.sum())
