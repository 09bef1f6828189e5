"""Faces of many pictures: read ahead, found, kept so that a killed run goes on, and written where they are wanted."""

from __future__ import annotations

import hashlib
import itertools
import logging
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facekit import __version__
from facekit.commands.detect_outputs import Outputs, plan_outputs
from facekit.errors import FacekitError, Interrupted, Loss
from facekit.files import protecting
from facekit.machine.memory import give_back_freed_memory
from facekit.machine.signals import StopSignals
from facekit.pictures.inputs import Input, Inputs, decoded_bytes, find_inputs, reader
from facekit.pictures.read_ahead import ahead
from facekit.progress import progress_bar
from facekit.results.journal import SUFFIX, Journal, journal_path
from facekit.results.names import Names
from facekit.results.row import Row, Run

if TYPE_CHECKING:
    from facekit.commands.detect import DetectOptions
    from facekit.commands.inputs import Choice
    from facekit.detector import Detector

log = logging.getLogger(__name__)

Looked = tuple[Row, NDArray[np.uint8] | None]


def plan_detect(options: DetectOptions, chosen: Choice) -> Detecting:
    """Raises FacekitError, before anything is loaded, where there is nothing to look at or to write to."""
    folders = [path for path in (options.draw, options.crops) if path is not None]
    inputs = find_inputs(options.inputs, options.from_file, folders[0] if folders else None)
    outputs = plan_outputs(options, inputs.total)
    detecting = Detecting(options, chosen, inputs, outputs)
    with protecting(inputs.files, detecting.written()):  # refuses an output that is an input
        return detecting


class Detecting:
    """An iterator of rows; `losses` holds what was left out so far."""

    def __init__(self, options: DetectOptions, chosen: Choice, inputs: Inputs, outputs: Outputs) -> None:
        self.options, self.inputs, self.outputs = options, inputs, outputs
        self._chosen = chosen
        self._names = Names() if outputs.takes_names else None
        self._rows: Generator[Row, None, None] | None = None
        self.losses = list(inputs.losses)
        self.pictures = self.faces = self.unread = 0

    def __iter__(self) -> Detecting:
        return self

    def __next__(self) -> Row:
        if self._rows is None:
            self._rows = self._go()
        return next(self._rows)

    @cached_property
    def detector(self) -> Detector:
        from facekit.detector import Passes

        return self._chosen.open(Passes((self.options.scale,), longest_side=self.options.longest_side))

    @cached_property
    def made_with(self) -> Run:
        """What the rows are made with."""
        from facekit.detector import BUNDLED_WEIGHTS

        weights = self._chosen.weights or BUNDLED_WEIGHTS
        files = [weights, weights.with_suffix(".bin")] if weights.suffix == ".xml" else [weights]
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        detector = self.detector
        return Run(
            __version__, detector.template.name, weights.name, digest, detector.protocol(), self.options.threshold,
            self.options.min_size,
        )  # fmt: skip

    def run(self) -> Detecting:
        """Goes through all, under a progress bar.

        Raises FacekitError where the disk refuses or no picture could be read, and Interrupted, what was found being
        kept for `resume`, where a signal asks for the end.
        """
        for _ in self._watched(None):
            pass
        return self

    def printed(self) -> Iterator[str]:
        """As run(); gives the text, in parts, of the format that is to be printed."""
        kind = self.outputs.printed
        assert kind is not None
        if kind != "coco":
            yield from self._watched(kind)
            return
        with tempfile.TemporaryDirectory(prefix="facekit-") as folder:
            journal = Journal(Path(folder) / f"rows{SUFFIX}", {}, resume=False)
            with closing(journal):
                for row in self:
                    journal.add(row)
                yield from self.outputs.text(kind, journal.rows, self.made_with)
        self._refuse_nothing()

    def _watched(self, printed: str | None) -> Iterator[str]:
        several = self.inputs.total is None or self.inputs.total > 1
        bar: Any = progress_bar(None, total=self.inputs.total, desc="detecting", unit="picture", delay_s=2) \
            if several else None  # fmt: skip
        with StopSignals() as stop, bar or nullcontext():

            def rows() -> Iterator[Row]:
                for row in self:
                    if bar is not None:
                        bar.update()
                    yield row
                    if stop.received:
                        self._stop(stop.received)

            if printed is None:
                yield from ("" for _ in rows())
            else:
                yield from self.outputs.text(printed, rows, self.made_with)
        self._refuse_nothing()

    def _stop(self, signal_number: int) -> None:
        if self._rows is not None:
            self._rows.close()
        of = "" if self.inputs.total is None else f" of {self.inputs.total}"
        more = " What was found is kept: the same with `resume=True` goes on." if self.outputs.on_disk() else ""
        raise Interrupted(f"Stopped after {self.pictures}{of} pictures.{more}", signal_number)

    def _refuse_nothing(self) -> None:
        if self.pictures and self.unread == self.pictures:
            shown = "\n".join(f"  {loss}" for loss in self.losses[:10])
            raise FacekitError(
                str(self.losses[0])
                if self.pictures == 1
                else f"None of {self.pictures} pictures could be read:\n{shown}"
            )

    def text(self) -> str:
        """What was done, where something was written."""
        places = ", ".join(map(str, self.outputs.on_disk()))
        crops = f", {self.outputs.crops_written} crops" if self.outputs.crops else ""
        return f"{self.pictures} pictures, {self.faces} faces{crops}: {places}" if places else ""

    def written(self) -> list[Path]:
        """Files whose names are known beforehand."""
        outputs = self.outputs
        drawn = [outputs.draw] if outputs.draw is not None and outputs.is_draw_file else []
        return [*outputs.files.values(), *drawn]

    def _go(self) -> Generator[Row, None, None]:
        """Rows of the run before, then new ones; behind the last the files."""
        options, outputs = self.options, self.outputs
        with ExitStack() as stack:
            stack.enter_context(protecting(self.inputs.files, self.written()))
            waiting = iter(self.inputs)
            journal: Journal | None = None
            if places := outputs.on_disk():
                path = journal_path(places[0], is_folder=not (outputs.files or outputs.is_draw_file))
                journal = Journal(path, self._settings(), options.resume, options.batch_size)
                stack.enter_context(closing(journal))
                for row in journal.rows():
                    self._check_same(row, next(waiting, None))
                    yield self._counted(row)
                if journal.done:
                    log.info("Going on behind the %d pictures that are done", journal.done)
            found = stack.enter_context(closing(self._look(waiting)))
            for row, image_bgr in found:
                if image_bgr is not None:
                    outputs.picture(row, image_bgr)
                if journal is not None:
                    journal.add(row)
                yield self._counted(row)
            if journal is not None:
                journal.sync()
                outputs.write(journal.rows, self.made_with)
                journal.remove()
            self.losses += outputs.losses

    def _settings(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        options = self.options
        listed = options.from_file
        return self.made_with.to_dict() | {
            "inputs": hashlib.sha256("\n".join(options.inputs).encode("utf-8", "surrogateescape")).hexdigest()[:16],
            "from_file": None if listed is None else str(listed),
            "batch_size": options.batch_size,
            "max_pixels": options.max_pixels,
            "per_picture": [str(path) for path in (options.draw, options.crops) if path] + [options.align],
        }

    def _check_same(self, row: Row, item: Input | None) -> None:
        if item is None or item.source != row.source:
            raise FacekitError(
                f"`resume`: picture {self.pictures + 1} was {row.source}, now it is "
                f"{'missing' if item is None else item.source}. Leave `resume` out to start anew."
            )
        if self._names is not None:
            self._names.of(item.below)

    def _counted(self, row: Row) -> Row:
        self.pictures += 1
        self.faces += len(row.faces)
        if row.error is not None:
            self.unread += 1
            self.losses.append(Loss(row.source, row.error))
        return row

    def _look(self, inputs: Iterator[Input]) -> Generator[Looked, None, None]:
        """A row a picture, with the picture where it could be read, in their order."""
        read = ahead(inputs, reader(self.options.max_pixels), decoded_bytes)
        with closing(read):
            while group := list(itertools.islice(read, self.options.batch_size)):
                images = [image for _, image in group if not isinstance(image, FacekitError)]
                found = iter(self.detector.detect_batch(images)) if images else iter(())
                for item, image in group:
                    name = "" if self._names is None else self._names.of(item.below)
                    if isinstance(image, FacekitError):
                        yield Row(item.source, error=Loss.of(item.source, image).why, name=name), None
                        continue
                    faces = next(found).above(self.options.threshold)
                    if self.options.min_size:
                        faces = faces.at_least(self.options.min_size)
                    yield Row(item.source, image.shape[1::-1], faces, name=name), image
                give_back_freed_memory()
