"""Where the pictures are that label files name, in whatever way another program or machine named them."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from facekit.base.files import real_path
from facekit.errors import FacekitError
from facekit.labels.picture_labels import PictureLabels, check_name_length

log = logging.getLogger(__name__)

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/]*")  # https://host, s3://bucket, file://
_LOCAL_FILES = re.compile(r".*/data/local-files/\?d=", re.DOTALL)  # as Label Studio writes it
_DRIVE = re.compile(r"^[A-Za-z]:(?=/|$)")
MAX_PARTS = 64  # of a path, that are tried as tails


class PictureFinder:
    """Finds the pictures of one label file: below the data root as they are named, or else by the longest tail of the
    name that is a file there; before that beside the label file, if it lies below the data root. What was found
    otherwise than named is said once, at the end."""

    def __init__(self, source: Path, data_root: Path | None, guesses: Sequence[Path] = ()) -> None:
        """data_root: the folder above the pictures; None: the first of `guesses` that has the first picture."""
        self.source = source
        self._given = data_root
        self._guesses = list(guesses) or [source.parent]
        self._root = data_root
        self._beside: Path | None = None  # the label file's folder, where that is below the data root
        if data_root is not None and real_path(source.parent).is_relative_to(real_path(data_root)):
            self._beside = data_root / real_path(source.parent).relative_to(real_path(data_root))
        self._names: dict[Path, str] = {}
        self._tails: dict[Path, str] = {}

    @property
    def root(self) -> Path:
        """The data root; before the first picture a guess."""
        return self._root or self._guesses[0]

    @property
    def folders(self) -> list[Path]:
        """Where pictures are looked for."""
        return self._guesses if self._root is None else [self._root]

    @property
    def looked_in(self) -> str:
        """All folders that were looked in, for messages."""
        return _listed(self._guesses if self._given is None else [self._given])

    def find(self, name: str, where: str) -> tuple[Path, str]:
        """A path below the data root, whether or not a file is there, and its name from there, with /.

        Raises FacekitError for a name that no disk holds, that leaves the data root with no tail of it there, or two
        names that are one file by their tails.
        """
        check_name_length(name, where)
        plain = plain_path(name)
        path = self._as_named(plain)
        if path is None or not path.is_file():
            path = self._beside_labels(plain) or self._by_tail(plain) or path
        if path is None:
            raise FacekitError(
                f"{where}: file_name {name!r} leaves the data root, and no end of it is a file there (looked in "
                f"{self.looked_in}). Give the folder above all pictures as data root (--data-root), or write file "
                f"names relative to it."
            )
        by_tail = path != self.root / plain
        other = self._names.get(path) if by_tail else self._tails.get(path)
        if other not in (None, name):
            raise FacekitError(
                f"{where}: {name!r} and {other!r} would both be {path}. Give the folder above all pictures as data "
                f"root (--data-root, now {self.root})."
            )
        self._names[path] = name
        if by_tail:
            self._tails[path] = name
        return path, path.relative_to(self.root).as_posix()

    def finish(self) -> None:
        """Says what was found otherwise than named."""
        if self._tails:
            path, name = next(iter(self._tails.items()))
            log.warning(
                "%s: %d of %d pictures are named otherwise than they lie below %s, and were found beside the labels or "
                "by the end of their names (first: %s is %s).",
                self.source, len(self._tails), len(self._names), self.root, name, path,
            )  # fmt: skip

    def _as_named(self, plain: PurePosixPath) -> Path | None:
        """Where the name says; None where it leaves the data root."""
        if plain.is_absolute() or ".." in plain.parts:
            return None
        if self._root is None:
            self._root = next((root for root in self._guesses if (root / plain).is_file()), None)
        return self.root / plain

    def _beside_labels(self, plain: PurePosixPath) -> Path | None:
        """As Roboflow names pictures, for a data root above the folders of its sets."""
        if self._beside is None or plain.is_absolute() or ".." in plain.parts:
            return None
        path = self._beside / plain
        return path if path.is_file() else None

    def _by_tail(self, plain: PurePosixPath) -> Path | None:
        for tail in tails_of(plain):
            for root in self.folders:
                if (root / tail).is_file():
                    self._root = root
                    return root / tail
        return None


def plain_path(name: str) -> PurePosixPath:
    """Without Windows' strokes and drive, an address' host, and Label Studio's wrapping."""
    local = _LOCAL_FILES.match(name)
    is_address = _ADDRESS.match(name)
    if local:
        name = unquote(name[local.end() :])
    elif is_address:
        name = unquote(re.split(r"[?#]", name[is_address.end() :])[0])
    return PurePosixPath(_DRIVE.sub("/", name.replace("\\", "/")))


def tails_of(plain: PurePosixPath) -> list[PurePosixPath]:
    """Of a/b/c.jpg: that, b/c.jpg, c.jpg; nothing of what stands before a `..`, the longest first."""
    parts = [part for part in plain.parts if part != "/"][-MAX_PARTS:]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    return [PurePosixPath(*parts[start:]) for start in range(len(parts))]


def explain_missing(pictures: Sequence[PictureLabels]) -> str | None:
    """Where pictures were looked for, of a set of which not one is on the disk; None where one is."""
    if not pictures or any(picture.path.is_file() for picture in pictures):
        return None
    first = pictures[0]
    root = first.path.parents[len(PurePosixPath(first.name or first.path.name).parts) - 1]
    source = Path(first.source or root)
    looked_in = [root] if root != source.parent else guesses_beside(source)
    return (
        f"None of the {len(pictures)} pictures is on the disk: the first would be {first.path}; looked in "
        f"{_listed(looked_in)}. Give the folder above all pictures by --data-root."
    )


def _listed(folders: Sequence[Path]) -> str:
    """Those that are there, for messages."""
    return ", ".join(map(str, dict.fromkeys(folder for folder in folders if folder.is_dir()))) or "no folder"


def guesses_beside(label_file: Path) -> list[Path]:
    """Folders that hold the pictures of a label file in the published layouts: beside it, in images/, in the folders
    above, with CVAT's and COCO's subset (annotations/instances_train2017.json: images/train2017, train2017), WIDER's
    and FDDB's."""
    here = label_file.parent
    subset = re.sub(r"^(instances|person_keypoints|annotations?|labels?)_", "", label_file.stem)
    roots = [here, here / "images"]
    for above in label_file.parents[1:3]:
        roots += [above / "images" / subset, above / subset, above, above / "images"]
        roots += [above / "WIDER_train" / "images", above / "WIDER_val" / "images"]
    roots += [above / "originalPics" for above in label_file.parents[:2]]
    return roots
