"""Pascal VOC in Ultra-Light's layout: all pictures in one folder.

FOLDER/ImageSets/Main/{train,val,trainval,test}.txt   a picture a line, without suffix: 0--Parade_x
FOLDER/Annotations/0--Parade_x.xml                    as in voc_xml
FOLDER/JPEGImages/0--Parade_x.jpg

Give the folder (all its lists), the folder with a list's name (FOLDER:train), or a list. CVAT's has folders below
Annotations and JPEGImages, and a list of another name: without one of the lists above, all of Annotations is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from facekit.base.files import sync_disk, write_text
from facekit.base.progress import progress_bar
from facekit.errors import FacekitError
from facekit.labels.formats.text_lines import (
    find_picture,
    in_any_letters,
    is_file,
    label_files_below,
    malformed,
    read_lines,
)
from facekit.labels.formats.voc_xml import VocFile, compose_voc, read_voc_files, say_what_has_no_xml
from facekit.labels.layout import (
    Parts,
    bring_picture,
    check_no_others,
    check_stems,
    check_unique,
    take_lists_away,
    without_suffix,
)
from facekit.labels.picture_labels import PictureLabels, Tally, picture_path
from facekit.labels.picture_paths import PictureFinder
from facekit.labels.values import say_read_together

MAX_NAME = 250  # bytes; with its suffix no disk holds more
LISTS = ("trainval", "train", "val", "test")


def looks_like_voc(source: Path, lines: list[str]) -> bool:
    """A folder with Annotations and JPEGImages, or a list whose first line is the name of a file in Annotations."""
    if source.is_dir():
        return (source / "Annotations").is_dir() and (
            (source / "JPEGImages").is_dir() or (source / "ImageSets").is_dir()
        )
    if not lines or len(source.parents) < 3 or len(lines[0].encode()) > MAX_NAME or source.suffix != ".txt":
        return False
    return is_file(in_any_letters(source.parents[2] / "Annotations" / f"{lines[0]}.xml")) or _in_place(source)


def read_voc(
    source: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None,
    part: str | None = None,
) -> list[PictureLabels]:  # fmt: skip
    """Pictures in the lists' order, each once; of a folder without lists, all of Annotations.

    data_root: the folder with JPEGImages, or that folder itself, where it isn't the labels' own.
    Raises FacekitError with file and line.
    """
    root = source if source.is_dir() else source.parents[2]
    pictures = root / "JPEGImages"
    if data_root is not None:
        pictures = data_root / "JPEGImages" if (data_root / "JPEGImages").is_dir() else data_root
    seen: dict[Path, str] = {}
    for name, where in _names(source, root, part):
        xml = in_any_letters(picture_path(root / "Annotations", f"{name}.xml", where))
        bare = name.strip('"')  # Datumaro, and so CVAT, puts names with blanks in these
        if bare != name and not xml.is_file():
            name, xml = bare, in_any_letters(picture_path(root / "Annotations", f"{bare}.xml", where))
        if xml in seen:
            continue  # trainval lists what train and val do
        if not xml.is_file():
            raise FacekitError(f"{where}: expected the labels of {name} in {xml}, got no such file. Mend the list.")
        seen[xml] = name
    if not seen:
        raise FacekitError(f"{source}: no picture is listed; there is nothing to train or to measure on.")

    finder = PictureFinder(source, pictures)

    def find(xml: Path, file: VocFile) -> tuple[Path, str]:
        name = find_picture(pictures, seen[xml], [PurePosixPath(file.file_name).suffix])
        return finder.find(name, f"{xml}:1")

    labels = read_voc_files(list(seen), find, source, finder, as_written, dropped)
    if source.is_dir() and not _lists(root):
        folders = {pictures, *(picture.path.parent for picture in labels)}
        say_what_has_no_xml(labels, filter(Path.is_dir, folders), source)
    return labels


def write_voc(destination: Path, parts: Parts, pictures: str) -> None:
    """Folders in a picture's name become part of it: a/x.jpg -> a_x.jpg. Lists last, so that they name whole pairs."""
    flat = {name: name.replace("/", "_") for part in parts.values() for name, _ in part}
    check_unique({name: f"{without_suffix(flat_name)}.xml" for name, flat_name in flat.items()})
    check_stems(flat)
    lists = {part: [without_suffix(flat[name]) for name, _ in named] for part, named in parts.items()}
    lists.setdefault("trainval", lists.get("train", []) + lists.get("val", []))
    if "val" in lists:
        lists.setdefault("test", lists["val"])  # Ultra-Light's trainer reads trainval and test
    files = {part: f"ImageSets/Main/{part}.txt" for part in lists}
    xmls = [f"Annotations/{without_suffix(flat_name)}.xml" for flat_name in flat.values()]
    check_no_others(
        destination, ["Annotations/**/*.xml", *(f"ImageSets/Main/{part}.txt" for part in LISTS)],
        [*xmls, *files.values()],
    )  # fmt: skip
    take_lists_away(destination, files.values())
    for part, named in parts.items():
        for name, labels in progress_bar(named, desc=part, unit="picture", delay_s=2):
            xml = compose_voc(flat[name], destination.name, labels)
            write_text(destination / "Annotations" / f"{without_suffix(flat[name])}.xml", xml, sync=False)
            bring_picture(labels.path, destination / "JPEGImages" / flat[name], pictures)
    (destination / "JPEGImages").mkdir(exist_ok=True)
    sync_disk()
    for part, stems in lists.items():
        write_text(destination / files[part], "".join(f"{stem}\n" for stem in stems))


def _in_place(source: Path) -> bool:
    return source.parent.name == "Main" and (source.parents[2] / "Annotations").is_dir()


def _lists(root: Path) -> list[Path]:
    files = (root / "ImageSets" / "Main" / f"{name}.txt" for name in LISTS)
    return [file for file in files if file.is_file()]


def _names(source: Path, root: Path, part: str | None) -> Iterator[tuple[str, str]]:
    """Names without suffix, and where they stand."""
    lists = [source]
    if source.is_dir():
        folder = root / "ImageSets" / "Main"
        if part is not None and not (folder / f"{part}.txt").is_file():
            raise FacekitError(f"{source}: expected the list {folder / part}.txt, got no such file. Name another list.")
        lists = [file for file in _lists(root) if part in (None, file.stem)]
        sets = [file.stem for file in lists]
        say_read_together(source, [name for name in sets if name != "trainval" or "train" not in sets])
        if not lists:
            for xml in sorted(label_files_below(root / "Annotations", ".xml")):
                yield without_suffix(xml.relative_to(root / "Annotations").as_posix()), str(xml)
    for file in lists:
        for line, name in read_lines(file):
            if len(name.encode()) > MAX_NAME or "\0" in name:
                raise malformed(file, line, "a picture's name without suffix", name)
            if name:
                yield name, f"{file}:{line}"
