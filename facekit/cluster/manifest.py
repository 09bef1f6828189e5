"""What is finished of a run: the file by which it goes on after its driver was killed.

A shard is done when its parts are written and the manifest says so. Between the two a kill leaves parts that nobody
counts: they are written again, with the same rows, under the same names.
"""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from facekit.base.reading import shown
from facekit.cluster.looking import LOSSES_TOLD, Part
from facekit.cluster.shards import Plan, planned_entries, read_plan
from facekit.cluster.stores import Entry, exists, is_store, joined, read_bytes, writing
from facekit.errors import FacekitError, Loss

log = logging.getLogger(__name__)

VERSION = 1
FOLDER = "_facekit"  # readers of folders of Parquet pass over what begins with _
MAX_BYTES = 1 << 30
PAUSE_S = 5.0  # between two writings, which take at most a fiftieth of the time
PAUSE_OF_WRITING = 50


class Manifest:
    """Counts the parts of a run, and writes them down now and then."""

    def __init__(self, home: str, settings: Mapping[str, Any]) -> None:
        """home: the folder of the first output. settings: what must be the same to go on."""
        self.folder = joined(home, FOLDER)
        self.file, self.plan_file = joined(self.folder, "manifest.json"), joined(self.folder, "plan.jsonl")
        self.scratch = joined(self.folder, "scratch")
        self.raw = joined(self.folder, "raw")  # rows of videos, until those of all shards are there
        self.settings = dict(settings)
        self.done: dict[int, tuple[int, int, int, int]] = {}  # shard: rows, faces, lost, cut
        self.losses: list[Loss] = []  # names that stand for nothing, then the first of the pictures lost
        self.cuts: list[Loss] = []  # the first of the pictures of which a frame or page alone was looked at
        self.names_lost = 0
        self.is_joined = False  # videos: their rows stand in the outputs
        self._next_s = 0.0

    def read(self) -> bool:
        """What an earlier run has done; False where there is none. Raises FacekitError for one of other settings."""
        if not exists(self.file):
            return False
        data = read_bytes(Entry(self.file, None), MAX_BYTES)
        try:
            content = json.loads(data)
            version, settings = content["version"], dict(content["settings"])
            self.done = {int(shard): _counts(*counts) for shard, *counts in content["done"]}
            self.losses = [Loss(str(what), str(why)) for what, why in content["losses"]]
            self.cuts = [Loss(str(what), str(why)) for what, why in content.get("cuts", [])]
            self.names_lost = int(content["names_lost"])
            self.is_joined = bool(content["joined"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise FacekitError(
                f"{self.file}: no manifest of facekit's ({shown(error)}). Start anew in another folder."
            ) from error
        other = [key for key in self.settings if version != VERSION or settings.get(key) != self.settings[key]]
        if other:
            told = ", ".join(f"{key} {shown(settings.get(key))}, now {shown(self.settings[key])}" for key in other)
            raise FacekitError(
                f"{self.file}: the run that was broken off had {told}. Give the same, or another folder to start anew."
            )
        return True

    def read_plan(self) -> Plan:
        """The shards that the earlier run had listed."""
        with self._open_plan() as stream:
            return read_plan(stream, self.plan_file)

    def planned(self) -> dict[str, int | None]:
        """What the earlier run had listed: names, with their sizes where the plan has them."""
        with self._open_plan() as stream:
            return dict(planned_entries(stream, self.plan_file))

    def _open_plan(self) -> IO[bytes]:
        if is_store(self.plan_file):
            return io.BytesIO(read_bytes(Entry(self.plan_file, None), 1 << 34))
        try:
            return Path(self.plan_file).open("rb")
        except OSError as error:
            raise FacekitError(f"{self.plan_file}: can't be read ({error.strerror}). Start anew.") from error

    def add(self, part: Part, again: bool = False) -> bool:
        """Counts a part; False where it is counted already, unless it is to be again. Writes the manifest when it is
        time."""
        if part.shard in self.done and not again:
            return False
        cut = self.done[part.shard][3] if again else part.cut  # rows that were read again don't tell
        self.done[part.shard] = (part.rows, part.faces, part.lost, cut)
        room = LOSSES_TOLD + self.names_lost - len(self.losses)
        self.losses += [Loss(*loss) for loss in part.losses[: max(0, room)]]
        self.cuts += [Loss(*loss) for loss in part.cuts[: LOSSES_TOLD - len(self.cuts)]]
        if time.monotonic() >= self._next_s:
            self.write()
        return True

    def write(self) -> None:
        """Whole or not at all."""
        started = time.monotonic()
        content = {
            "version": VERSION,
            "settings": self.settings,
            "names_lost": self.names_lost,
            "joined": self.is_joined,
            "losses": [[loss.what, loss.why] for loss in self.losses],
            "cuts": [[loss.what, loss.why] for loss in self.cuts],
            "done": [[shard, *self.done[shard]] for shard in sorted(self.done)],
        }
        with writing(self.file, self.scratch) as beside:
            beside.write_text(json.dumps(content) + "\n", encoding="ascii")
        took_s = time.monotonic() - started
        self._next_s = time.monotonic() + max(PAUSE_S, PAUSE_OF_WRITING * took_s)

    @property
    def rows(self) -> int:
        return sum(rows for rows, *_ in self.done.values())

    @property
    def faces(self) -> int:
        return sum(faces for _, faces, *_ in self.done.values())

    @property
    def lost(self) -> int:
        return sum(lost for _, _, lost, _ in self.done.values())

    @property
    def cut(self) -> int:
        return sum(cut for *_, cut in self.done.values())


def _counts(rows: int, faces: int, lost: int, cut: int = 0) -> tuple[int, int, int, int]:
    """Of a shard; manifests before 0.5 was released counted none that were cut."""
    return int(rows), int(faces), int(lost), int(cut)
