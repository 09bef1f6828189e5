"""Faces of many pictures: read ahead, found, kept so that a killed run goes on, and written where they are wanted."""

from __future__ import annotations

import hashlib
import itertools
import logging
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facekit import __version__
from facekit.base.files import protecting
from facekit.base.progress import progress_bar
from facekit.commands.detect_outputs import Outputs, plan_outputs
from facekit.commands.inputs import passes_of
from facekit.commands.watching import Looking, Seen, carried, refuse_without_video, watch
from facekit.errors import FacekitError, Interrupted, Loss, counted
from facekit.machine.memory import give_back_freed_memory
from facekit.machine.signals import StopSignals
from facekit.pictures.av_video import Frame
from facekit.pictures.draw import draw_faces
from facekit.pictures.inputs import Input, Inputs, PictureReader, decoded_bytes, file_state, find_inputs
from facekit.pictures.read_ahead import ahead
from facekit.pictures.spans import Spans
from facekit.pictures.video import find_source
from facekit.results.journal import SUFFIX, Journal, journal_path
from facekit.results.names import Names
from facekit.results.row import Row, Run
from facekit.targets.table import files_of
from facekit.tracks.bytetrack import TrackSettings

if TYPE_CHECKING:
    from facekit.commands.detect import DetectOptions
    from facekit.commands.inputs import Choice
    from facekit.detector import Detector
    from facekit.structures import Detections

log = logging.getLogger(__name__)

LOW_SCORE = 0.1  # that continues a track
Looked = tuple[Row, NDArray[np.uint8] | None]


def plan_detect(options: DetectOptions, chosen: Choice) -> Detecting:
    """Raises FacekitError, before anything is loaded, where there is nothing to look at or to write to."""
    folders = [path for path in (options.draw, options.crops) if path is not None]
    inputs = find_inputs(options.inputs, options.from_file, folders[0] if folders else None)
    refuse_without_video(inputs, options, ("track", "every", "start", "end"))
    outputs = plan_outputs(options, inputs)
    work = Finding(options, chosen, inputs, outputs)
    with protecting(inputs.files, work.written()):  # refuses an output that is an input
        return Detecting(work)


class Finding:
    """The work, and what has become of it so far."""

    def __init__(self, options: DetectOptions, chosen: Choice, inputs: Inputs, outputs: Outputs) -> None:
        self.options, self.inputs, self.outputs = options, inputs, outputs
        self._chosen = chosen
        self._names = Names() if outputs.takes_names else None
        self.losses = list(inputs.losses)
        self.pictures = self.frames = self.faces = self.unread = self.dropped = 0
        self.broken_videos = 0  # that have a row behind their frames
        self.expected = inputs.total
        self._spans = Spans.of(options.start, options.end)
        low = min(LOW_SCORE, options.threshold)
        tracks = TrackSettings(options.threshold, low) if options.track else None
        self._looking = Looking(options.threshold, options.min_size, options.every, tracks)

    @cached_property
    def detector(self) -> Detector:
        return self._chosen.open(passes_of(self.options.scale, self.options.longest_side))

    @cached_property
    def made_with(self) -> Run:
        """What the rows are made with."""
        from facekit.detector import BUNDLED_WEIGHTS

        weights = self._chosen.weights or BUNDLED_WEIGHTS
        detector = self.detector  # which refuses what isn't whole
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files_of(weights))).hexdigest()
        return Run(
            __version__, detector.template.name, weights.name, digest, detector.protocol(), self.options.threshold,
            self.options.min_size, self.options.track,
        )  # fmt: skip

    def text(self) -> str:
        """What was done, where something was written."""
        places = ", ".join(map(str, self.outputs.on_disk()))
        crops = f", {counted(self.outputs.crops_written, 'crop')}" if self.outputs.crops else ""
        kinds = {"picture": self.pictures - self.broken_videos, "frame": self.frames}
        seen = ", ".join(counted(count, kind) for kind, count in kinds.items() if count) or "nothing"
        dropped = f" ({self.dropped} more were dropped, to keep up)" if self.dropped else ""
        return f"{seen}{dropped}, {counted(self.faces, 'face')}{crops}: {places}" if places else ""

    def kinds(self) -> str:
        """What it went through, without the number."""
        if not self.frames:
            return "pictures"
        return "frames and pictures" if self.pictures > self.broken_videos else "frames"

    def written(self) -> list[Path]:
        """Files whose names are known beforehand."""
        outputs = self.outputs
        drawn = [outputs.draw] if outputs.draw is not None and outputs.is_draw_file else []
        return [*outputs.files.values(), *drawn]

    def rows(self) -> Generator[Row, None, None]:
        """Rows of the run before, then new ones; behind the last the files."""
        options, outputs = self.options, self.outputs
        if options.align and not self.detector.head.has_landmarks:
            name = self.detector.template.name
            raise FacekitError(f"`align`: {name} finds no landmarks. Take a detector that does, such as yunet-n.")
        with ExitStack() as stack:
            listed = self.inputs.listed_in([path for path in (options.draw, options.crops) if path is not None])
            stack.enter_context(protecting([*self.inputs.files, *listed], self.written()))
            waiting = iter(self.inputs)
            journal: Journal | None = None
            if places := outputs.on_disk():
                path = journal_path(places[0], is_folder=not (outputs.files or outputs.is_draw_file))
                journal = Journal(path, self._settings(), options.resume, options.batch_size)
                stack.enter_context(closing(journal))
                before: Row | None = None
                for row in journal.rows():
                    if not _is_of_same_video(row, before):
                        self._check_same(row, next(waiting, None))
                    yield self._counted(row)
                    before = row
                if journal.done:
                    log.info("Going on behind the %d pictures that are done", journal.done)
            found = stack.enter_context(closing(self._look(waiting)))
            for row, image_bgr in found:
                if image_bgr is not None:
                    (outputs.picture if row.frame is None else outputs.frame)(row, image_bgr)
                if journal is not None:
                    journal.add(row)
                yield self._counted(row)
            if journal is not None:
                journal.sync()
                outputs.write(journal.rows, self.made_with, self._names.numbered if self._names is not None else {})
                journal.remove()
            self.losses += outputs.losses + self.detector.losses()

    def _settings(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        options = self.options
        listed = options.from_file
        return self.made_with.to_dict() | {
            "inputs": hashlib.sha256("\n".join(options.inputs).encode("utf-8", "surrogateescape")).hexdigest()[:16],
            "from_file": None if listed is None else str(listed),
            "batch_size": options.batch_size,
            "max_pixels": options.max_pixels,
            "every": options.every,
            "from": ", ".join(options.start),
            "to": ", ".join(options.end),
            "per_picture": [str(path) for path in (options.draw, options.crops) if path] + [options.align],
        }

    def _check_same(self, row: Row, item: Input | None) -> None:
        if item is None or item.source != row.source:
            raise FacekitError(
                f"`resume`: picture {self.pictures + 1} was {row.source}, now it is "
                f"{'missing' if item is None else item.source}. Leave `resume` out to start anew."
            )
        if row.file_state != file_state(item):
            raise FacekitError(
                f"`resume`: {row.source} has changed since it was looked at (its size, or its time of change). Leave "
                f"`resume` out to start anew."
            )
        if self._names is not None:
            self._names.of(item.below)

    def _counted(self, row: Row) -> Row:
        self.frames += row.frame is not None
        self.pictures += row.frame is None
        self.faces += len(row.faces)
        if row.error is not None:
            self.unread += 1
            self.losses.append(Loss(row.source, row.error))
        if row.left_out is not None:
            self.losses.append(Loss(row.source, row.left_out))
        return row

    def _look(self, inputs: Iterator[Input]) -> Generator[Looked, None, None]:
        """A row a picture or frame, with the picture where it could be read, in their order."""
        for is_video, alike in itertools.groupby(inputs, lambda item: item.kind == "video"):
            for part in (self._look_at_video(item) for item in alike) if is_video else (self._look_at_pictures(alike),):
                with closing(part):
                    yield from part

    def _look_at_video(self, item: Input) -> Generator[Looked, None, None]:
        """A row a frame; one with the reason behind them where the video breaks off, or can't be read."""
        seen, name, output, state = Seen(), item.below, None, file_state(item)
        if self._names is not None:
            name = self._names.of(item.below)
        output = self.outputs.video(name, item.source)
        stem = PurePosixPath(name).with_suffix("").as_posix()
        try:
            source = find_source(item.place)
            look = partial(self._faces_until_refused, seen=seen, item=item)
            draw = None if output is None else lambda frame, faces: draw_faces(frame.image_bgr, faces)
            found = watch(source, seen, look, output, draw, self._spans, max_pixels=self.options.max_pixels)
            with closing(found):
                for frame, faces in found:
                    if seen.frames == 1 and self.expected is not None:
                        self.expected += (seen.total or 1) - 1
                    size_wh = frame.image_bgr.shape[1::-1]
                    frame_name = f"{stem}/{frame.number:06}.jpg" if self._names else ""
                    yield (
                        Row(
                            item.source,
                            size_wh,
                            faces,
                            None,
                            frame.number,
                            frame.time_s,
                            frame_name,
                            file_state=state,
                        ),
                        frame.image_bgr,
                    )
            losses = [loss.why for loss in seen.losses]
        except FacekitError as error:
            losses = [Loss.of(item.source, error).why.removeprefix(f"`video={item.source}`: ")]
            if seen.frames:
                raise
        self.dropped += seen.dropped
        if losses:
            self.broken_videos += bool(seen.frames)
            yield Row(item.source, error="; ".join(losses), file_state=state), None

    def _faces_until_refused(
        self, frames: Iterator[Frame], seen: Seen, item: Input
    ) -> Iterator[tuple[Frame, Detections]]:
        """The frames' faces, up to one that the network can't take: a loss, and what was drawn so far is kept."""

        def find(frame: Frame) -> Detections:
            try:
                return self.detector.detect(frame.image_bgr)
            except FacekitError as error:
                raise _FrameRefused(str(error)) from error

        try:
            yield from carried(frames, find, self._looking)
        except _FrameRefused as error:
            if not seen.frames:
                raise
            seen.losses.append(Loss(item.source, f"from frame {seen.frames} on: {Loss.of(item.source, error).why}"))

    def _look_at_pictures(self, inputs: Iterator[Input]) -> Generator[Looked, None, None]:
        detector = self.detector  # opened here, where a refusal ends the run
        reader = PictureReader(self.options.max_pixels)
        read = ahead(inputs, reader, decoded_bytes)
        with closing(read):
            while group := list(itertools.islice(read, self.options.batch_size)):
                images = [image for _, image in group if not isinstance(image, FacekitError)]
                states = iter([file_state(item) for item, _ in group])
                found = iter(detector.detect_each(images))
                for item, image in group:
                    name = "" if self._names is None else self._names.of(item.below)
                    outcome = image if isinstance(image, FacekitError) else next(found)
                    row = Row(item.source, name=name, file_state=next(states))
                    if isinstance(outcome, FacekitError):
                        yield replace(row, error=Loss.of(item.source, outcome).why), None
                        continue
                    assert not isinstance(image, FacekitError)
                    faces = outcome.above(self.options.threshold)
                    if self.options.min_size:
                        faces = faces.at_least(self.options.min_size)
                    yield replace(row, size_wh=image.shape[1::-1], faces=faces, left_out=reader.left_out(item)), image
                give_back_freed_memory()


class _FrameRefused(FacekitError):
    """By the network; what a disk refuses while the frames' pictures are written is another error."""


class Detecting:
    """An iterator of rows; behind the last one all files are written."""

    def __init__(self, work: Finding) -> None:
        self.work = work
        # The rows' generator holds the work and not this iterator: one that is dropped is closed at once.
        self._rows = work.rows()

    @property
    def losses(self) -> list[Loss]:
        """What was left out so far."""
        return self.work.losses

    def __iter__(self) -> Detecting:
        return self

    def __next__(self) -> Row:
        return next(self._rows)

    def run(self) -> Detecting:
        """Goes through all, under a progress bar.

        Raises FacekitError where the disk refuses or no picture could be read, and Interrupted, what was found being
        kept for `resume`, where a signal asks for the end.
        """
        for _ in self._watched(None):
            pass
        return self

    def text(self) -> str:
        """What was done, where something was written."""
        return self.work.text()

    def printed(self) -> Iterator[str] | None:
        """None where run() is to be called; else what works as it does, and gives the text to print, in parts."""
        return None if self.work.outputs.printed is None else self._printed()

    def _printed(self) -> Iterator[str]:
        kind = self.work.outputs.printed
        assert kind is not None
        if kind != "coco":
            yield from self._watched(kind)
            return
        with tempfile.TemporaryDirectory(prefix="facekit-") as folder:
            journal = Journal(Path(folder) / f"rows{SUFFIX}", {}, resume=False)
            with closing(journal):
                for row in self:
                    journal.add(row)
                yield from self.work.outputs.text(kind, journal.rows, self.work.made_with)
        self._refuse_nothing()

    def _watched(self, printed: str | None) -> Iterator[str]:
        several = self.work.inputs.total != 1 or any(item.kind == "video" for item in self.work.inputs.named)
        bar: Any = progress_bar(None, total=self.work.inputs.total, desc="detecting", unit="picture", delay_s=2) \
            if several else None  # fmt: skip
        with StopSignals() as stop, nullcontext() if bar is None else bar:

            def rows() -> Iterator[Row]:
                for row in self:
                    if bar is not None:
                        bar.total = self.work.expected
                        bar.update()
                    yield row
                    if stop.received:
                        self._stop(stop.received)

            if printed is None:
                yield from ("" for _ in rows())
            else:
                yield from self.work.outputs.text(printed, rows, self.work.made_with)
        self._refuse_nothing()

    def _stop(self, signal_number: int) -> None:
        self._rows.close()
        of = "" if self.work.expected is None else f" of {self.work.expected}"
        more = " What was found is kept: the same with `resume=True` goes on." if self.work.outputs.on_disk() else ""
        done = self.work.pictures + self.work.frames
        raise Interrupted(f"Stopped after {done}{of} {self.work.kinds()}.{more}", signal_number)

    def _refuse_nothing(self) -> None:
        if not self.work.frames and self.work.pictures and self.work.unread == self.work.pictures:
            shown = "\n".join(f"  {loss}" for loss in self.work.losses[:10])
            raise FacekitError(
                str(self.work.losses[0])
                if self.work.pictures == 1
                else f"None of {self.work.pictures} pictures could be read:\n{shown}"
            )


def _is_of_same_video(row: Row, before: Row | None) -> bool:
    """Whether the row is not the first of its picture or video. One without frame, behind frames of the same source,
    says how the video broke off."""
    if before is None or before.frame is None or row.source != before.source:
        return False
    return row.frame > before.frame if row.frame is not None else row.error is not None
