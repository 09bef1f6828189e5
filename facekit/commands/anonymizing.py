"""Faces of pictures and videos covered; videos in two passes: found and followed, then covered."""

from __future__ import annotations

import itertools
import logging
import re
from array import array
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from facekit.base.files import check_outputs, check_writable_folder, protecting, replacing
from facekit.base.progress import progress_bar
from facekit.commands.inputs import Choice, passes_of
from facekit.commands.watching import Looking, Seen, faces_of, refuse_without_video, watch
from facekit.errors import ArgumentError, FacekitError, Interrupted, Loss, counted
from facekit.machine.signals import StopSignals
from facekit.pictures.av_video import Frame
from facekit.pictures.contact_sheet import ContactSheet
from facekit.pictures.cover import Cover, cover_faces
from facekit.pictures.inputs import Input, Inputs, PictureReader, decoded_bytes, find_inputs
from facekit.pictures.read_ahead import ahead
from facekit.pictures.spans import Spans
from facekit.pictures.video import find_source
from facekit.pictures.video_file import WRITTEN_SUFFIXES as VIDEO_WRITTEN
from facekit.pictures.video_file import check_video_name
from facekit.pictures.write import (
    WITH_EXIF,
    WRITTEN_SUFFIXES,
    check_picture_name,
    check_replaceable,
    kept_exif,
    write_picture,
)
from facekit.results.existing import check_replaceable_rows
from facekit.results.names import Names
from facekit.results.row import NO_FACES, Row
from facekit.structures import Detections
from facekit.tracks.bridging import Sightings, bridge, joined
from facekit.tracks.bytetrack import TrackSettings

if TYPE_CHECKING:
    from facekit.commands.anonymize import AnonymizeOptions
    from facekit.detector import Detector

log = logging.getLogger(__name__)

EXTEND_SHARE = 3  # before its first and behind its last sighting a face is covered for a third of the bridged frames
DOUBTFUL = 0.15  # over the threshold: scores up to here are looked at by people


@dataclass
class Anonymized:
    """What became of it."""

    written: list[Path] = field(default_factory=list)
    frames: int = 0  # of videos
    pictures: int = 0
    faces: int = 0  # covered, each in each frame
    bridged: int = 0  # of them, those that were not found in their frame
    losses: list[Loss] = field(default_factory=list)
    report: Path | None = None
    sheet: Path | None = None

    def text(self) -> str:
        seen = ", ".join(
            counted(count, kind) for kind, count in (("picture", self.pictures), ("frame", self.frames)) if count
        )
        bridged = f", {self.bridged} of them bridged" if self.frames else ""
        places = [*self.written[-1:], *(path for path in (self.report, self.sheet) if path is not None)]
        more = f"; the last of {len(self.written)}" if len(self.written) > 1 else ""
        return f"{seen}: {counted(self.faces, 'face')} covered{bridged}: {', '.join(map(str, places))}{more}"


class Areas:
    """Where faces are left alone, and outside of which they are."""

    def __init__(self, ignore: Iterable[str], only: Iterable[str]) -> None:
        self.ignore = [_area(text, "ignore") for text in ignore]
        self.only = [_area(text, "only") for text in only]

    def chosen(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(N, 4) -> (N,): whether each is to be covered."""
        x, y = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]).T / 2
        inside = [(x >= left) & (x < left + width) & (y >= top) & (y < top + height)
                  for left, top, width, height in (*self.ignore, *self.only)]  # fmt: skip
        chosen = np.ones(len(boxes_xyxy), bool)
        for found in inside[: len(self.ignore)]:
            chosen &= ~found
        return chosen & np.any(inside[len(self.ignore) :], axis=0) if self.only else chosen

    def loss(self, source: str, shape: tuple[int, ...]) -> list[Loss]:
        """Where `only` chooses nothing of a picture of that shape, (H, W, ...): its numbers are likely wrong."""
        height, width = shape[:2]
        if not self.only or any(left < width and top < height for left, top, _, _ in self.only):
            return []
        return [Loss(source, f"no face is covered: `only` lies outside its {width}x{height} pixels")]


def _area(text: str, name: str) -> tuple[float, ...]:
    if not re.fullmatch(r"\d+(\.\d+)?(,\d+(\.\d+)?){3}", text.replace(" ", "")):
        raise ArgumentError(f"`{name}`: expected x,y,width,height in pixels, such as 0,0,320,200, got {text[:40]!r}.")
    area = tuple(float(part) for part in text.split(","))
    if 0 in area[2:]:
        raise ArgumentError(f"`{name}`: {text[:40]} has no pixels. Give x,y,width,height, such as 0,0,320,200.")
    return area


def run_anonymize(options: AnonymizeOptions, chosen: Choice) -> Anonymized:
    """See commands.anonymize."""
    spans, areas = Spans.of(options.start, options.end), Areas(options.ignore, options.only)
    is_file = bool(options.output.suffix) and not options.output.is_dir()
    inputs = find_inputs(options.inputs, None, None if is_file else options.output)
    refuse_without_video(inputs, options, ("every", "bridge", "low_threshold", "start", "end"))
    targets = _targets(inputs, options.output, is_file)
    sheet = None if options.report is None else options.report.with_suffix(".jpg")
    if options.report is not None and options.report.suffix.lower() in ("", ".jpg", ".jpeg"):
        raise ArgumentError("`report` is a text, of lines of JSON: give a name such as report.jsonl.")
    check_outputs(inputs.files, [*targets, options.report, sheet])
    for path in (*targets, sheet):
        if path is not None:
            check_replaceable(path)
    if options.report is not None:
        check_replaceable_rows("jsonl", options.report)
    with protecting(inputs.files), StopSignals() as stop:
        work = _Work(options, chosen, spans, areas, Anonymized(losses=[*inputs.losses, *inputs.left_out]), stop)
        try:
            _write_rows(work, list(zip(inputs.named, targets, strict=True)), options.report)
        except Interrupted:
            raise
        except FacekitError as error:  # such as of a full disk; what else was lost is told, too
            raise FacekitError("\n".join([str(error), *map(str, work.done.losses[:10])])) from error
    done = work.done
    done.losses += work.detector.losses()
    if sheet is not None and work.sheet.has_any:
        try:
            write_picture(sheet, work.sheet.picture())
            done.sheet = sheet
        except FacekitError as error:
            done.losses.append(Loss.of(sheet, error))
    done.report = options.report
    if stop.received:
        raise Interrupted(work.stopped(), stop.received)
    if not done.written:
        raise FacekitError("\n".join(str(loss) for loss in done.losses[:10]) or "Nothing could be read.")
    return done


def _write_rows(work: _Work, pairs: list[tuple[Input, Path]], path: Path | None) -> None:
    """Covers all, and writes the report, where there is to be one. Raises Interrupted, and leaves an earlier report,
    where it is stopped before anything was written."""
    with ExitStack() as stack:
        report = None
        if path is not None:
            report = stack.enter_context(replacing(path)).open("w", encoding="ascii", newline="\n")
            stack.callback(report.close)
        rows = stack.enter_context(closing(work.rows(pairs)))
        with suppress(Interrupted):  # while looking: said below
            for row in rows:
                if report is not None:
                    report.write(row.to_json() + "\n")
                if work.stop.received:
                    break
        rows.close()
        if work.stop.received and not work.done.written and work.cut_off is None:
            raise Interrupted(work.stopped(), work.stop.received)
        if report is not None:
            report.close()


def _targets(inputs: Inputs, output: Path, is_file: bool) -> list[Path]:
    """Where each goes. Raises ArgumentError for a file for many, FacekitError for kinds that can't be written."""
    items = inputs.named
    if is_file:
        if len(items) != 1:
            raise ArgumentError(
                f"`output={output}`: a name with a suffix is a file, and there are {len(items)} inputs. Give a folder."
            )
        (check_video_name if items[0].kind == "video" else check_picture_name)(output)
        check_writable_folder(output.parent)
        return [output]
    check_writable_folder(output)
    names = Names()
    targets = []
    for item in items:
        kept, plain = (VIDEO_WRITTEN, ".mp4") if item.kind == "video" else (WRITTEN_SUFFIXES, ".jpg")
        targets.append(output / names.of_file(item.below, kept, plain))
    return targets


class _Work:
    def __init__(
        self, options: AnonymizeOptions, chosen: Choice, spans: Spans, areas: Areas, done: Anonymized, stop: StopSignals
    ) -> None:
        self.options, self.spans, self.areas, self.done, self.stop = options, spans, areas, done, stop
        self.cover = Cover(options.method, options.shape, options.margin)
        self.sheet = ContactSheet()
        self.read = PictureReader(options.max_pixels, on_white=True)
        self.is_closed = False  # in the middle of a video: nobody takes another row
        self.cut_off: Path | None = None  # the video that it was stopped in
        self.left: Path | None = None  # the same, where an earlier one of that name stays
        self.detector: Detector = chosen.open(passes_of(options.scale, options.longest_side))
        low = min(options.low_threshold, options.threshold)
        # A track waits as long as gaps are bridged, and more: then it keeps its number, and both sides are held.
        tracks = TrackSettings(options.threshold, low, keep=max(30, 2 * options.bridge))
        self.looking = Looking(options.threshold, options.min_size, options.every, tracks, looks_last=True)

    def rows(self, pairs: list[tuple[Input, Path]]) -> Generator[Row, None, None]:
        """Of all inputs, in their order."""
        for is_video, alike in itertools.groupby(pairs, lambda pair: pair[0].kind == "video"):
            if is_video:
                for item, target in alike:
                    yield from self.video(item, target)
            else:
                yield from self.pictures(list(alike))

    def stopped(self) -> str:
        """What is said where a signal ended it."""
        done = self.done
        kept = f"What is written is whole: {done.text()}." if done.written else "Nothing is written that is whole."
        cut_off = f" {self.cut_off} ends early." if self.cut_off is not None else ""
        left = f" {self.left} is the one that was there before." if self.left is not None else ""
        return f"Stopped. {kept}{cut_off}{left}"

    def pictures(self, pairs: list[tuple[Input, Path]]) -> Iterator[Row]:
        """A row a picture."""
        bar = progress_bar(None, total=len(pairs), desc="covering", unit="picture") if len(pairs) > 1 else nullcontext()
        read = ahead((item for item, _ in pairs), self.read, decoded_bytes)
        with closing(read), bar as shown:
            for (item, image_bgr), (_, target) in zip(read, pairs, strict=True):
                if shown is not None:
                    shown.update()
                try:
                    if isinstance(image_bgr, FacekitError):
                        raise image_bgr
                    faces = self.detector.detect(image_bgr)  # which some networks can't, of some sizes
                except FacekitError as error:
                    loss = Loss.of(item.source, error)
                    self.done.losses.append(loss)
                    yield Row(item.source, error=loss.why)
                    continue
                yield self._picture(item, image_bgr, faces.above(self.options.threshold), target)

    def _picture(self, item: Input, image_bgr: NDArray[np.uint8], faces: Detections, target: Path) -> Row:
        if self.options.min_size:
            faces = faces.at_least(self.options.min_size)
        faces = faces.take(self.areas.chosen(faces.boxes_xyxy))
        covered = cover_faces(image_bgr, faces.boxes_xyxy, self.cover)
        write_picture(target, covered, self._kept_exif(item, target) if self.options.keep_metadata else None)
        if (left_out := self.read.left_out(item)) is not None:
            self.done.losses.append(Loss(item.source, left_out))
        self.done.losses += self.areas.loss(item.source, image_bgr.shape)
        self.done.pictures += 1
        self.done.faces += len(faces)
        self.done.written.append(target)
        if self._is_doubtful(faces):
            self.sheet.add(covered, faces, Path(item.source).name)
        return Row(item.source, image_bgr.shape[1::-1], faces)

    def _kept_exif(self, item: Input, target: Path) -> bytes | None:
        """None where there is none; what can't be kept is a loss."""
        why = ""
        if target.suffix.lower() not in WITH_EXIF:
            why = f"its EXIF is not kept: {target.suffix} has no room for it; write .jpg, .png or .webp"
        elif item.kind != "file":
            why = "its EXIF is not kept: only that of files is read; save it as one first"
        else:
            try:
                return kept_exif(Path(item.place))
            except FacekitError as error:
                why = Loss.of(item.place, error).why
        self.done.losses.append(Loss(item.source, why))
        return None

    def _is_doubtful(self, faces: Detections) -> bool:
        return bool((faces.scores < self.options.threshold + DOUBTFUL).any())

    def video(self, item: Input, target: Path) -> Iterator[Row]:
        """A row a frame. A video that can't be read is a loss."""
        try:
            source = find_source(item.place)
            if source.path is None:
                raise FacekitError(f"{source.name}: a live source can't be looked at twice. Record it first.")
            yield from self._two_passes(item, target)
        except Interrupted:
            raise
        except FacekitError as error:
            loss = Loss(item.source, Loss.of(item.source, error).why.removeprefix(f"`video={item.source}`: "))
            self.done.losses.append(loss)
            if not self.is_closed:
                yield Row(item.source, error=loss.why)

    def _two_passes(self, item: Input, target: Path) -> Iterator[Row]:
        places = self._found(item)
        source, seen = find_source(item.place), Seen()

        def look(frames: Iterator[Frame]) -> Iterator[tuple[Frame, Detections]]:
            return ((frame, places.of(frame.number)) for frame in frames)

        def draw(frame: Frame, faces: Detections) -> NDArray[np.uint8]:
            return cover_faces(frame.image_bgr, faces.boxes_xyxy, self.cover)

        doubtful, was_there = self._doubtful_frames(places), target.exists()
        before = self.done.frames, self.done.faces, self.done.bridged
        watched = watch(source, seen, look, target, draw, self.spans, self.options.keep_sound, self.options.max_pixels)
        bar = progress_bar(None, total=places.frames, desc="covering", unit="frame")
        try:
            with closing(watched), bar:
                for frame, faces in watched:
                    bar.update()
                    self.done.frames += 1
                    self.done.faces += len(faces)
                    if frame.number in doubtful:
                        self.sheet.add(draw(frame, faces), faces, f"{frame.time_s:.2f} s")
                    if faces.is_interpolated is not None:
                        self.done.bridged += int(faces.is_interpolated.sum())
                    try:
                        yield Row(item.source, frame.image_bgr.shape[1::-1], faces, None, frame.number, frame.time_s)
                    except GeneratorExit:  # stopped: what is covered so far can be played
                        self.is_closed = True
                        if was_there:
                            self.done.frames, self.done.faces, self.done.bridged = before
                            with suppress(FacekitError):  # so that it takes no whole one's place
                                watched.throw(FacekitError("stopped"))
                        raise
        except GeneratorExit:
            self.left, self.cut_off = (target, None) if was_there else (None, target)
            raise
        self.done.written.append(target)
        self.done.losses += seen.losses
        if seen.frames != places.frames:
            reason = f"the first pass saw {places.frames} frames, the second {seen.frames}: the others are not covered"
            self.done.losses.append(Loss(item.source, reason))

    def _found(self, item: Input) -> Places:
        """The first pass."""
        found, seen = Places(), Seen()
        watched = watch(find_source(item.place), seen, partial(faces_of, detector=self.detector, looking=self.looking),
                        spans=self.spans, max_pixels=self.options.max_pixels)  # fmt: skip
        with closing(watched), progress_bar(None, desc="looking", unit="frame") as bar:
            for frame, faces in watched:
                if not bar.n:
                    self.done.losses += self.areas.loss(item.source, frame.image_bgr.shape)
                bar.total = seen.total
                bar.update()
                found.add(frame.number, faces)
                if self.stop.received:
                    raise Interrupted("Stopped while looking: nothing of this video is written.", self.stop.received)
        # Frames that nobody looked at are missed, too, and a face may have come or gone between two looks.
        unseen = self.options.every - 1
        bridged = self.options.bridge + unseen
        found.bridge(bridged, max(1, self.options.bridge // EXTEND_SHARE) + unseen, self.areas)
        return found

    def _doubtful_frames(self, places: Places) -> set[int]:
        frames = places.doubtful(self.options.threshold + DOUBTFUL)
        most = self.sheet.room
        return set(frames[np.linspace(0, len(frames) - 1, min(most, len(frames))).astype(int)].tolist())


class Places:
    """Where faces are in each frame of a video, found or bridged: 40 bytes a face and frame."""

    def __init__(self) -> None:
        self._shown = array("q")
        self._values = array("f")  # box, score
        self._tracks = array("q")  # frame, track
        self.frames = 0
        self._sorted: Sightings | None = None
        self._is_bridged = np.empty(0, bool)

    def add(self, frame: int, faces: Detections) -> None:
        self.frames += 1
        self._shown.append(frame)
        if faces.track_ids is None:
            return
        is_made = np.zeros(len(faces), bool) if faces.is_interpolated is None else faces.is_interpolated
        for index in np.flatnonzero(~is_made):  # what was only carried is bridged better
            self._values.extend((*faces.boxes_xyxy[index].tolist(), float(faces.scores[index])))
            self._tracks.extend((frame, int(faces.track_ids[index])))

    def bridge(self, most_frames: int, extend: int, areas: Areas) -> None:
        values = np.array(self._values, np.float32).reshape(-1, 5)
        tracks = np.array(self._tracks, np.int64).reshape(-1, 2)
        found = Sightings(tracks[:, 0], tracks[:, 1], values[:, :4], values[:, 4])
        made = bridge(found, np.array(self._shown, np.int64), most_frames, extend)
        both = joined([found, made])
        is_bridged = np.arange(len(both.frames)) >= len(found.frames)
        chosen = areas.chosen(both.boxes_xyxy)
        order = np.flatnonzero(chosen)[np.argsort(both.frames[chosen], kind="stable")]
        self._sorted = both.at(order)
        self._is_bridged = is_bridged[order]

    def of(self, frame: int) -> Detections:
        """The frame's faces."""
        places = self._sorted
        if places is None:
            return NO_FACES
        first, end = np.searchsorted(places.frames, [frame, frame + 1])
        part = slice(first, end)
        return Detections(
            places.boxes_xyxy[part], places.scores[part], None, places.track_ids[part], self._is_bridged[part]
        )

    def doubtful(self, score: float) -> NDArray[np.int64]:
        """Frames with a bridged face or one of a lower score, rising."""
        if self._sorted is None:
            return np.empty(0, np.int64)
        return np.unique(self._sorted.frames[self._is_bridged | (self._sorted.scores < score)])
