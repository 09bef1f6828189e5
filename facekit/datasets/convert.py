"""Labels of any format into another: filtered, split, merged, with or without the pictures."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from facekit.base.files import check_new, check_writable_folder, making_folder, sync_disk, write_text
from facekit.base.options import check_folder_name
from facekit.base.progress import progress_bar
from facekit.datasets.convert_options import ConvertOptions
from facekit.errors import FacekitError, Loss
from facekit.labels.formats import FORMATS, PARTS, WRITTEN, Format, read_labels, split_part
from facekit.labels.formats.text_lines import read_lines
from facekit.labels.layout import (
    PICTURE_MODES,
    Named,
    bring_picture,
    check_no_others,
    name_in,
    take_lists_away,
    without_suffix,
)
from facekit.labels.picture_labels import PictureLabels, Tally
from facekit.pictures.read import picture_size

log = logging.getLogger(__name__)

Source = tuple[Path, Path | None]  # labels, and the folder above their pictures
MARKER = ".facekit-labels"  # holds the format's name, in folders that may be written again
_SPLIT_NAMES = ("train", "val", "test")
_INVALID = 3  # in WIDER_ATTRIBUTES
_CROWDS = "crowds, which the format can't mark"


@dataclass
class Summary:
    """What was written, for the user."""

    parts: dict[str, list[Named]]
    destination: Path
    data_root: Path
    dropped: Tally = field(default_factory=Counter)  # faces
    not_kept: Tally = field(default_factory=Counter)  # of faces that stay: what the format can't say

    @property
    def losses(self) -> list[Loss]:
        """What the written set says otherwise than the labels did."""
        if not self.dropped[_CROWDS]:
            return []
        keeping = ", ".join(name for name, row in FORMATS.items() if "crowds" in row.keeps)
        why = f"{self.dropped[_CROWDS]} {_CROWDS}: there they are background. These formats keep them: {keeping}."
        return [Loss(str(self.destination), why)]

    def table(self) -> str:
        """Rows a part; then what was left out, by reason."""
        rows = [("", "pictures", "faces", "with landmarks", "without faces")]
        for part, named in self.parts.items():
            boxes = [len(labels.boxes_xywh) for _, labels in named]
            marked = sum(int(np.isfinite(labels.landmarks_xy).all(axis=(1, 2)).sum()) for _, labels in named)
            rows.append((part, str(len(named)), str(sum(boxes)), str(marked), str(boxes.count(0))))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for part, *numbers in rows:
            cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
            lines.append("  ".join([part.ljust(widths[0]), *cells]).rstrip())
        lines += [f"faces left out: {count} ({reason})" for reason, count in sorted(self.dropped.items()) if count]
        lines += [f"not in this format: {what} of {count} faces" for what, count in sorted(self.not_kept.items())]
        return "\n".join([*lines, f"written: {self.destination}; data root: {self.data_root}"])


def convert(
    sources: Mapping[str, Sequence[Source]], format_name: str, destination: Path, options: ConvertOptions
) -> Summary:
    """Writes the sources of each part as one data set; with a split, of the only part.

    Raises FacekitError, before anything is written, for labels that can't be read, names that clash, a destination
    that is the source or holds what isn't ours (unless force).
    """
    row = FORMATS[format_name]
    mode = options.pictures or ("none" if row.write_file else "copy")
    if mode not in PICTURE_MODES or (len(sources) != 1 and (options.split or row.write_folder is None)):
        raise ValueError(f"pictures: one of {PICTURE_MODES}; several parts: into a folder's format, without a split")
    all_sources = [split_part(path)[0] for part in sources.values() for path, _ in part]
    as_folder = row.write_folder is not None or bool(options.split)
    _check_destination(destination, all_sources, as_folder, format_name, options.force)
    dropped: Tally = Counter()
    unknown: dict[Path, int] = {}
    read = {part: _read(given, dropped, unknown) for part, given in sources.items()}
    if options.drop_invalid:
        _check_attributes([labels for pictures, _ in read.values() for labels in pictures])
        for path, faces in unknown.items():
            log.warning("%s: %d faces have no attributes: nothing says which are invalid, so all stay.", path, faces)
    named = _name(read)
    root = _common_root([root for _, root in read.values()])
    if options.subset is not None:
        named = _only(named, options.subset)
    summary = Summary({}, destination, root, dropped)
    for part, pictures in named.items():
        if not row.states_size:
            _check_sizes(pictures, format_name)
        sized = with_sizes(pictures) if row.needs_size else pictures
        summary.parts[part] = [(name, _filtered(labels, row, options, summary)) for name, labels in sized]
    if options.split:
        summary.parts = _split(summary.parts, options)
    _write(summary, row, format_name, mode, as_folder, options.force)
    return summary


def with_sizes(named: list[Named]) -> list[Named]:
    """Sizes from the pictures where the labels have none."""
    unknown = {name for name, labels in named if labels.size_wh is None}
    if not unknown:
        return named
    return [
        (name, replace(labels, size_wh=picture_size(labels.path)) if name in unknown else labels)
        for name, labels in progress_bar(named, desc="picture sizes", unit="picture", delay_s=2)
    ]


def _check_sizes(named: list[Named], format_name: str) -> None:
    """Raises FacekitError for a picture that its labels say another size of than readers see: of a format that states
    no size they would read the boxes on that. Of pictures turned by their EXIF, labels may mean the unturned ones."""
    sized = [labels for _, labels in named if labels.size_wh is not None]
    for labels in progress_bar(sized, desc="picture sizes", unit="picture", delay_s=2):
        if labels.size_wh != (seen_wh := picture_size(labels.path)):
            stating = ", ".join(name for name in WRITTEN if FORMATS[name].states_size)
            raise FacekitError(
                f"{labels.path}: the labels say {'x'.join(map(str, labels.size_wh or ()))} pixels, the picture has "
                f"{'x'.join(map(str, seen_wh))} as viewers show it, and {format_name} states no size. Take a format "
                f"that does ({stating}), save the picture upright, or mend the labels."
            )


def _read(sources: Sequence[Source], dropped: Tally, unknown: dict[Path, int]) -> tuple[list[PictureLabels], Path]:
    """The pictures of all sources, and the folder that is above them all. unknown: is told of labels with faces without
    attributes, and of how many."""
    pictures: list[PictureLabels] = []
    for path, data_root in sources:
        found = read_labels(path, data_root, dropped=dropped)
        if faces := sum(len(labels.boxes_xywh) for labels in found if labels.attributes is None):
            unknown[path] = faces
        pictures += found
    seen: set[Path] = set()
    for picture in pictures:
        place = picture.path.absolute()
        if place in seen:
            raise FacekitError(f"{picture.path}: is labelled twice in what is put together. Take it out of one source.")
        seen.add(place)
    return pictures, _common_root([_root_of(picture) for picture in pictures])


def _check_attributes(pictures: Sequence[PictureLabels]) -> None:
    faces = any(len(labels.boxes_xywh) for labels in pictures)
    if faces and all(labels.attributes is None for labels in pictures):
        raise FacekitError(
            "`drop_invalid`: none of the labels have attributes, so nothing says which faces are invalid. Leave it out."
        )


def _root_of(picture: PictureLabels) -> Path:
    depth = len(PurePosixPath(picture.name or picture.path.name).parts)
    return picture.path.absolute().parents[depth - 1]


def _common_root(roots: Sequence[Path]) -> Path:
    return Path(os.path.commonpath(sorted(set(roots))))


def _name(read: Mapping[str, tuple[list[PictureLabels], Path]]) -> dict[str, list[Named]]:
    """Every picture's path below its own data root, where that is one, or below the folder above all."""
    named = {}
    for part, (pictures, root) in read.items():
        named[part] = [(name_in(root, picture.path.absolute()), picture) for picture in pictures]
    return named


def _only(named: Mapping[str, list[Named]], subset: Path) -> dict[str, list[Named]]:
    wanted = {text: line for line, text in read_lines(subset) if text}
    found: set[str] = set()
    kept: dict[str, list[Named]] = {}
    for part, pictures in named.items():
        kept[part] = []
        for name, labels in pictures:
            if hits := {name, without_suffix(name)} & wanted.keys():
                found |= hits
                kept[part].append((name, labels))
    if missing := [text for text in wanted if text not in found]:
        raise FacekitError(
            f"{subset}:{wanted[missing[0]]}: {len(missing)} of {len(wanted)} pictures aren't in the labels; the first "
            f"is {missing[0]!r}. Names are as the labels have them, with or without suffix."
        )
    return kept


def _filtered(labels: PictureLabels, row: Format, options: ConvertOptions, summary: Summary) -> PictureLabels:
    """One picture without the faces that aren't wanted, and without what the format can't hold."""
    reasons = {}
    if options.drop_invalid and labels.attributes is not None:
        reasons["invalid"] = labels.attributes[:, _INVALID] == 1
    if options.min_size > 0:
        small = (labels.boxes_xywh[:, 2:] < options.min_size).any(axis=1)
        reasons[f"under {options.min_size:g} pixels"] = small
    if "crowds" not in row.keeps:
        reasons[_CROWDS] = labels.is_crowd
    keep = np.ones(len(labels.boxes_xywh), bool)
    for reason, mask in reasons.items():
        if (mask & keep).any():
            summary.dropped[reason] += int((mask & keep).sum())
        keep &= ~mask
    labels = labels if keep.all() else labels.take(keep)
    marked = np.isfinite(labels.landmarks_xy).all(axis=(1, 2))
    if "landmarks" not in row.keeps and marked.any():
        summary.not_kept["landmarks"] += int(marked.sum())
        labels = replace(labels, landmarks_xy=np.full_like(labels.landmarks_xy, np.nan))
    if "attributes" not in row.keeps and labels.attributes is not None:
        summary.not_kept["attributes"] += len(labels.attributes)
    return labels


def _split(parts: Mapping[str, list[Named]], options: ConvertOptions) -> dict[str, list[Named]]:
    """By picture, from the seed and the names alone, whatever their order; the order within a part stays."""
    [named] = parts.values()
    by_name = sorted(range(len(named)), key=lambda i: named[i][0])
    shuffled = np.random.default_rng(options.seed).permutation(by_name)
    bounds = np.rint(np.cumsum(options.split) / sum(options.split) * len(named)).astype(int)
    pieces = np.split(shuffled, bounds[:-1])
    if any(len(piece) == 0 for piece in pieces):
        raise FacekitError(f"`split`: {len(named)} pictures are too few for these shares: a part would be empty.")
    return {part: [named[i] for i in sorted(piece)] for part, piece in zip(_SPLIT_NAMES, pieces, strict=False)}


def _check_destination(
    destination: Path, sources: Sequence[Path], as_folder: bool, format_name: str, force: bool
) -> None:
    place = Path(os.path.realpath(destination))
    for source in sources:
        if source.exists() and Path(os.path.realpath(source)).is_relative_to(place):
            raise FacekitError(f"{destination}: is or holds the source {source}. Choose another destination.")
        if (
            source.is_dir()
            and place.is_relative_to(os.path.realpath(source))
            and (as_folder or any(path.resolve() != place for path in source.rglob(f"*{destination.suffix}")))
        ):  # a file of a suffix that the labels don't have is passed over
            raise FacekitError(
                f"{destination}: lies in the source {source}, and would be read as a part of it from then on. Choose a "
                f"destination outside of it."
            )
    if not as_folder:
        if destination.is_dir():
            raise FacekitError(f"{destination}: is a folder. Give the name of the file to write.")
        check_new(destination, force)
        return
    if destination.is_file():
        raise FacekitError(f"{destination}: is a file. Give the name of a folder.")
    check_folder_name("destination", destination)
    _refuse_foreign(destination, format_name, force)


def _refuse_foreign(folder: Path, format_name: str, force: bool) -> None:
    if force or not folder.is_dir() or not any(folder.iterdir()):
        return
    marker = folder / MARKER
    if not marker.is_file() or marker.read_text(encoding="utf-8", errors="replace").strip() != format_name:
        raise FacekitError(
            f"{folder}: is not empty and not a {format_name} data set written by this command. "
            f"Choose another folder, or give `force=True`."
        )


def _write(summary: Summary, row: Format, format_name: str, mode: str, as_folder: bool, force: bool) -> None:
    destination = summary.destination
    if row.write_folder is not None:
        check_writable_folder(destination)
        with making_folder(destination) as place:
            row.write_folder(place, summary.parts, mode)
            write_text(place / MARKER, f"{format_name}\n")
        summary.data_root = destination
        return
    assert row.write_file is not None
    files = {part: f"{part}{row.suffix}" for part in summary.parts}
    if as_folder:
        check_no_others(destination, [f"{part}{row.suffix}" for part in PARTS], files.values())
        take_lists_away(destination, files.values())
    if mode != "none":
        pictures = destination / "images" if as_folder else destination.with_name(f"{destination.stem}_images")
        if not as_folder:
            _refuse_foreign(pictures, "pictures", force)
            check_writable_folder(pictures)
            write_text(pictures / MARKER, "pictures\n")
        named = [pair for part in summary.parts.values() for pair in part]
        for name, labels in progress_bar(named, desc=mode, unit="picture", delay_s=2):
            bring_picture(labels.path, pictures / name, mode)
        sync_disk()
        summary.data_root = pictures
    if as_folder:
        check_writable_folder(destination)
        write_text(destination / MARKER, f"{format_name}\n")
    for part, chosen in summary.parts.items():
        row.write_file(destination / files[part] if as_folder else destination, chosen)
