"""A row a picture, or a frame of a video: what was looked at, its faces, or why there are none. docs/detect.md"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from facekit.base.reading import shown
from facekit.errors import FacekitError
from facekit.structures import SCHEMA_VERSION, Detections

_BYTE = "udc([89a-f][0-9a-f]|5c)"  # behind a backslash
NO_FACES = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))


@dataclass(frozen=True)
class Row:
    """Exactly one for each picture, also for a broken one, and for each frame that was looked at."""

    source: str  # path or address, as it was given; of a folder's pictures with the folder
    size_wh: tuple[int, int] | None = None  # pixels, turned as a viewer shows it; None: it could not be read
    faces: Detections = NO_FACES  # best score first
    error: str | None = None  # why it could not be read
    frame: int | None = None  # of a video, from 0
    time_s: float | None = None  # of the frame, from the video's first
    # No parts of the row itself:
    name: str = field(default="", compare=False)  # a relative path, with /, for what is written of it
    left_out: str | None = field(default=None, compare=False)  # what of the file nobody looked at, in words
    file_state: tuple[int, int] | None = field(default=None, compare=False)  # as it was looked at, by file_state()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        width, height = self.size_wh or (None, None)
        moment = {} if self.frame is None else {"frame": self.frame, "time_s": self.time_s}
        return {
            "schema": SCHEMA_VERSION, "source": self.source, **moment, "width": width, "height": height,
            "faces": self.faces.to_dicts(), "error": self.error,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Any, where: str = "row", name: str = "") -> Row:
        """What to_dict() gave. Raises FacekitError, which begins with `where`, for anything else."""
        try:
            if values["schema"] != SCHEMA_VERSION:
                raise FacekitError(
                    f"{where}: of the schema {shown(values['schema'])}, and this facekit reads {SCHEMA_VERSION}."
                )
            size_wh = None if values["width"] is None else (int(values["width"]), int(values["height"]))
            faces = Detections.from_dicts(values["faces"]) if values["faces"] else NO_FACES
            return cls(
                str(values["source"]), size_wh, faces, values["error"], values.get("frame"), values.get("time_s"), name
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FacekitError(f"{where}: not a row of facekit's ({shown(error)}). Write it again.") from error

    def to_json(self) -> str:
        """On one line, of ASCII: names of any bytes come back as they were."""
        return json.dumps(self.to_dict(), separators=(",", ":"), allow_nan=False)


def as_unicode(text: str) -> str:
    """A name for formats that hold Unicode alone: bytes of it that are no UTF-8 stand as \\udcXX, XX being the
    byte, and so does the backslash (5c) of a name that holds such letters itself."""
    escaped = re.sub(rf"\\(?={_BYTE})", r"\\udc5c", text)
    return escaped.encode("utf-8", "backslashreplace").decode()


def from_unicode(text: str) -> str:
    """What as_unicode() was given."""
    return re.sub(rf"\\{_BYTE}", lambda found: "\\" if found[1] == "5c" else chr(0xDC00 + int(found[1], 16)), text)


def row_of_json(line: str | bytes, where: str) -> Row:
    """Raises FacekitError, which begins with `where`, for a line that to_json() didn't write."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FacekitError(f"{where}: no JSON ({shown(error)}). Write it again.") from error
    return Row.from_dict(values, where)


@dataclass(frozen=True)
class Run:
    """What rows were made with; stands in the files that have a place for it."""

    facekit: str  # version
    model: str  # the template's name
    weights: str  # file
    weights_sha256: str
    protocol: str  # how pictures are looked at, in words
    threshold: float  # scores over it were kept
    min_size: float  # pixels, of width and height
    tracked: bool = False

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))
