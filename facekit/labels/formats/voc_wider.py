"""Pascal VOC in the tiny SSD's layout: WIDER's own folders with the labels of each set in one.

FOLDER/train.txt, FOLDER/val.txt                a picture a line, without folder and suffix: 0_Parade_x
FOLDER/WIDER_train/Annotations/0_Parade_x.xml   as in voc_xml; <folder> is 0--Parade
FOLDER/WIDER_train/0--Parade/0_Parade_x.jpg

Give the folder (all its lists), the folder with a list's name (FOLDER:train), or a list.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from facekit.base.files import sync_disk, write_text
from facekit.base.progress import progress_bar
from facekit.errors import FacekitError
from facekit.labels.formats.text_lines import in_any_letters, is_file, malformed, read_lines
from facekit.labels.formats.voc_xml import VocFile, compose_voc, read_voc_files
from facekit.labels.layout import Parts, bring_picture, check_no_others, check_stems, check_unique, take_lists_away
from facekit.labels.picture_labels import PictureLabels, Tally, picture_path
from facekit.labels.picture_paths import PictureFinder
from facekit.labels.values import say_read_together

MAX_NAME = 250  # bytes; with its suffix no disk holds more
LISTS = ("train", "val", "test")


def looks_like_voc_wider(source: Path, lines: list[str]) -> bool:
    """A folder with a list and a WIDER_train/Annotations, or a list whose first line is a file there."""
    if source.is_dir():
        return bool(_label_folders(source)) and any((source / f"{name}.txt").is_file() for name in LISTS)
    if not lines or len(lines[0].encode()) > MAX_NAME:
        return False
    return any(is_file(in_any_letters(folder / f"{lines[0]}.xml")) for folder in _label_folders(source.parent))


def read_voc_wider(
    source: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None,
    part: str | None = None,
) -> list[PictureLabels]:  # fmt: skip
    """Pictures in the lists' order.

    data_root: the folder with WIDER_train and WIDER_val, where it isn't the labels' own.
    Raises FacekitError with file and line.
    """
    root = source if source.is_dir() else source.parent
    lists = [source]
    if source.is_dir():
        lists = [source / f"{name}.txt" for name in LISTS if part in (None, name)]
        lists = [file for file in lists if file.is_file()]
        if not lists:
            raise FacekitError(f"{source}: expected the list {part}.txt, got no such file. Name another list.")
        say_read_together(source, [file.stem for file in lists])
    listed: set[Path] = set()
    xmls: list[Path] = []
    for file in lists:
        folders = sorted(_label_folders(root), key=lambda folder: folder.parent.name != f"WIDER_{file.stem}")
        for line, name in read_lines(file):
            if not name:
                continue
            where = f"{file}:{line}"
            if len(name.encode()) > MAX_NAME or "\0" in name:
                raise malformed(file, line, "a picture's name without suffix", name)
            candidates = [in_any_letters(picture_path(folder, f"{name}.xml", where)) for folder in folders]
            xml = next((path for path in candidates if path.is_file()), None)
            if xml is None:
                raise malformed(file, line, "a name with labels, WIDER_*/Annotations/NAME.xml", name, "Mend the list.")
            if xml in listed:
                raise malformed(file, line, "a name that isn't listed yet", name, "List each picture once.")
            listed.add(xml)
            xmls.append(xml)
    if not xmls:
        raise FacekitError(f"{source}: no picture is listed; there is nothing to train or to measure on.")
    pictures = data_root or root
    finder = PictureFinder(source, pictures)

    def find(xml: Path, file: VocFile) -> tuple[Path, str]:
        path, name = finder.find(_picture_name(pictures, xml, file), f"{xml}:1")
        return path, _without_set(name)

    return read_voc_files(xmls, find, source, finder, as_written, dropped)


def write_voc_wider(destination: Path, parts: Parts, pictures: str) -> None:
    """Into a folder of its own. Pictures of one name in two folders are refused."""
    lists = [f"{part}.txt" for part in parts]
    patterns = ["WIDER_*/Annotations/*.xml", *(f"{part}.txt" for part in LISTS)]
    check_no_others(destination, patterns, [*_checked_xmls(parts), *lists])
    take_lists_away(destination, lists)
    add_voc_wider(destination, parts, pictures)


def add_voc_wider(destination: Path, parts: Parts, pictures: str) -> None:
    """Beside the other parts that are there. Lists last, so that they name whole pairs."""
    _checked_xmls(parts)
    for part, named in parts.items():
        folder = destination / f"WIDER_{part}"
        for name, labels in progress_bar(named, desc=part, unit="picture", delay_s=2):
            path = PurePosixPath(name)
            xml = compose_voc(path.name, path.parent.as_posix(), labels)
            write_text(folder / "Annotations" / f"{path.stem}.xml", xml, sync=False)
            bring_picture(labels.path, folder / name, pictures)
    sync_disk()
    for part, named in parts.items():
        write_text(destination / f"{part}.txt", "".join(f"{PurePosixPath(name).stem}\n" for name, _ in named))


def _checked_xmls(parts: Parts) -> list[str]:
    """The annotations' files. Raises FacekitError for names that can't be written."""
    found: list[str] = []
    for part, named in parts.items():
        check_stems(name for name, _ in named)
        xmls = {name: f"WIDER_{part}/Annotations/{PurePosixPath(name).stem}.xml" for name, _ in named}
        check_unique(xmls)
        found += xmls.values()
    return found


def _without_set(name: str) -> str:
    """WIDER_train/images/0--Parade/x.jpg -> 0--Parade/x.jpg."""
    parts = PurePosixPath(name).parts[1:] or (name,)
    return "/".join(parts[1:] if parts[0] == "images" and len(parts) > 1 else parts)


def _label_folders(root: Path) -> list[Path]:
    return sorted(root.glob("WIDER_*/Annotations"))


def _picture_name(root: Path, xml: Path, file: VocFile) -> str:
    """The picture that the XML names, in the set that the XML lies in."""
    name = file.file_name or f"{xml.stem}.jpg"
    below = name if file.folder in ("", ".") else f"{file.folder}/{name}"
    part = xml.parent.parent.name
    candidates = [f"{part}/{below}", f"{part}/images/{below}", f"{part}/images/{name}", f"{part}/{name}"]
    found = (name for name in candidates if picture_path(root, name, f"{xml}:1").is_file())
    return next(found, candidates[0])
