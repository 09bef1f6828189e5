"""Pascal VOC with each picture's XML beside it, as Roboflow and labelImg write it, or in a folder beside the pictures.

FOLDER/x.jpg, FOLDER/x.xml, in any subfolders   as in voc_xml; Roboflow's are train, valid and test
FOLDER/images/x.jpg, FOLDER/annotations/x.xml   found by <folder> and <filename>

Give the folder, or FOLDER:train for one of the sets; or one XML file. Read alone.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from facekit.base.files import real_path
from facekit.errors import FacekitError
from facekit.labels.formats.text_lines import find_picture, first_lines, is_file, label_files_below
from facekit.labels.formats.voc_xml import VocFile, read_voc_files, say_what_has_no_xml
from facekit.labels.picture_labels import PictureLabels, Tally
from facekit.labels.picture_paths import PictureFinder
from facekit.labels.values import say_read_together

SET_FOLDERS = {"train": ("train",), "val": ("valid", "val", "validation"), "test": ("test",)}


def looks_like_voc_beside(source: Path, lines: list[str]) -> bool:
    """An XML file of VOC, or a folder with one somewhere in it that is not laid out for YOLO."""
    if source.is_dir():
        if (source / "labels").is_dir() or (source / "data.yaml").is_file():
            return False
        first = next(label_files_below(source, ".xml"), None)
        if first is None:
            return False
        lines = first_lines(first, 40)
    return any(re.search(r"<annotation[\s>]", line) for line in lines)


def read_voc_beside(
    source: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None,
    part: str | None = None,
) -> list[PictureLabels]:  # fmt: skip
    """Pictures by the names of their XML files. Pictures without one are no part of the set, with a warning.

    data_root: the folder above the pictures where they aren't beside their XML files; one above those names them.
    Raises FacekitError with file and line.
    """
    top = source if source.is_dir() else source.parent
    xmls = [source] if source.is_file() else _xmls_below(source, part)
    if not xmls:
        wanted = " or ".join(SET_FOLDERS.get(part or "", (str(part),)))
        raise FacekitError(f"{source}: no XML file below {wanted}. Name another set, or give the folder alone.")
    guesses = [folder / name for folder in (top, top.parent) for name in ("", "images", "Images", "JPEGImages")]
    finder = PictureFinder(source, data_root, guesses)
    root = real_path(data_root or top)

    def find(xml: Path, file: VocFile) -> tuple[Path, str]:
        below = xml.relative_to(top).parent
        name = find_picture(xml.parent, xml.stem, [PurePosixPath(file.file_name).suffix])
        folder = real_path(xml.parent)
        # Files are renamed together with their XML, whose <filename> then is another picture's, or none's.
        if folder.is_relative_to(root) and is_file(xml.parent / name):
            return xml.parent / name, (folder.relative_to(root) / name).as_posix()
        own = file.file_name or name
        return finder.find(f"{file.folder}/{own}" if file.folder else (below / own).as_posix(), f"{xml}:1")

    pictures = read_voc_files(xmls, find, source, finder, as_written, dropped)
    if source.is_dir():
        say_what_has_no_xml(pictures, {xml.parent for xml in xmls}, source)
    return pictures


def _xmls_below(folder: Path, part: str | None) -> list[Path]:
    tops = [folder] if part is None else [folder / name for name in SET_FOLDERS.get(part, ())]
    xmls = sorted(file for top in tops for file in label_files_below(top, ".xml"))
    if part is None:
        first = {file.relative_to(folder).parts[0] for file in xmls}
        say_read_together(folder, [key for key, names in SET_FOLDERS.items() if first.intersection(names)])
    return xmls
