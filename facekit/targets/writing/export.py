"""The export command: weights in, files of other runtimes out, each compared with PyTorch before it is kept."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from facekit.base.extras import explain_missing
from facekit.base.files import check_place, check_writable_folder, replacing_set, write_text
from facekit.base.progress import working
from facekit.errors import ArgumentError, FacekitError, Loss
from facekit.machine.signals import sigterm_unwinding
from facekit.ops.head import declared_head
from facekit.results.existing import check_replaceable_model
from facekit.targets import Backend, Target, load_target
from facekit.targets.onnx import write_graph
from facekit.targets.pytorch import PyTorchBackend
from facekit.targets.reading.about import beside, own_licence, write_beside
from facekit.targets.table import DEFAULT_FORMATS, FORMATS, TARGETS, find_format, missing_packages
from facekit.targets.writing.check_pictures import check_pictures
from facekit.targets.writing.draft import Draft, GraphOptions
from facekit.targets.writing.graph import ExportGraph
from facekit.targets.writing.readme import readme, readme_path
from facekit.targets.writing.texts import DIGEST, is_to_keep, marked, unmarked
from facekit.targets.writing.verify import FLOAT, HALF, Differences, verify_export, verify_faces
from facekit.template import Template

log = logging.getLogger(__name__)

COMPRESSED = "compressed.pth"  # of `facekit compress`, whose IR has the same names as an export's
MODEL_OF_PACKAGE = Path("Data", "com.apple.CoreML", "model.mlmodel")  # below a .mlpackage
KEPT = "is there already, edited or somebody's own, and stays. To have facekit's, move it away and export again."


@dataclass(frozen=True)
class Written:
    """One format of an export."""

    format: str
    files: tuple[Path, ...]  # the one to open first
    differences: Differences | None  # from PyTorch, the largest ones; None: it does not run on this machine


@dataclass
class Exported:
    """What an export has made, and what it had to leave out."""

    written: list[Written] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    readme: Path | None = None  # that says how each is run; None also where an edited one stays

    @property
    def files(self) -> list[Path]:
        return [path for one in self.written for path in one.files]


@dataclass(frozen=True)
class ExportSettings:
    """How an export is made."""

    formats: tuple[str, ...] = DEFAULT_FORMATS  # names of TARGETS, or all
    size_hw: tuple[int, int] | None = None  # the only size of picture that the files are to take
    check_pictures: tuple[Path, ...] = ()  # to compare on, beside facekit's own
    options: GraphOptions = field(default_factory=GraphOptions)  # of the ONNX and OpenVINO files


def choose_formats(
    names: Sequence[str], template: Template, size_hw: tuple[int, int] | None = None
) -> tuple[list[Target], list[Loss]]:
    """What to write, in the table's order; and of `all`, what can't be: formats whose packages are not installed, or
    that can't be made for size_hw alone, where that is asked for.

    Raises FacekitError for a name that is none, or that the template or the size can't be written to, or whose packages
    are missing; nothing heavy is imported for that.
    """
    is_sized = declared_head(template.model).any_size and size_hw is not None
    if "all" in names:
        fitting = [target for target in map(TARGETS.__getitem__, FORMATS) if _refusal(target, template) is None]
        missing = {target.name: missing_packages(target) for target in fitting}
        losses = [Loss(name, str(explain_missing(packages))) for name, packages in missing.items() if packages]
        unsized = [target for target in fitting if is_sized and not target.one_size]
        losses += [Loss(target.name, "runs at any size. Export it without `input_size`.") for target in unsized]
        return [target for target in fitting if not missing[target.name] and target not in unsized], losses
    chosen = {name: find_format(name) for name in names}
    for target in chosen.values():
        if (refusal := _refusal(target, template)) is not None:
            raise FacekitError(f"`formats`: {refusal}")
        if is_sized and not target.one_size:
            raise ArgumentError(
                f"`input_size`: {target.name} runs at any size. Leave it out, or export {target.name} without it."
            )
        if packages := missing_packages(target):
            raise explain_missing(packages)
    return [TARGETS[name] for name in FORMATS if name in chosen], []


def _refusal(target: Target, template: Template) -> str | None:
    if not target.architectures or template.model.architecture in target.architectures:
        return None
    return f"{target.name} is for {', '.join(target.architectures)} alone; {template.name} is a " \
           f"{template.model.architecture}."  # fmt: skip


def check_places(targets: Sequence[Target], folder: Path, template: Template) -> None:
    """Asked before minutes of work. Raises FacekitError where a file can't take its place, or would take the place of
    what `facekit compress` made, or of somebody's own model."""
    for target in targets:
        first = target.paths(folder, template.name)[0]
        if target.name == "openvino" and first.is_file() and (folder / COMPRESSED).is_file():
            raise FacekitError(
                f"{first}: would be written over, but it belongs to {COMPRESSED} beside it. Choose another folder, or "
                f"move one of the two away first."
            )
        for file, path in zip(target.files, target.paths(folder, template.name), strict=True):
            if file.endswith("/"):
                check_replaceable_model(path / MODEL_OF_PACKAGE)
                continue
            check_place(path)
            if path.suffix not in target.texts:  # those that people edited are kept, each by itself
                check_replaceable_model(path)


def export_weights(weights: Path, template: Template, folder: Path, settings: ExportSettings) -> Exported:
    """Writes the formats into the folder, each compared with PyTorch first.

    Of `all` what fails is left out, a loss; so are texts, such as the C++ example, where people edited those that
    lie there. Raises FacekitError for weights that don't fit, a folder that can't be written, or a format given by name
    that is none, whose packages are missing, or whose file differs.
    """
    targets, losses = choose_formats(settings.formats, template, settings.size_hw)
    check_writable_folder(folder)
    check_places(targets, folder, template)
    backend = PyTorchBackend.from_file(weights, template, device="cpu")
    if backend.is_compressed:
        raise FacekitError(f"{weights}: compressed weights; compress.py has written their IR beside them already.")
    done = Exported(losses=losses)
    log.info("Exporting %s ...", weights)
    # Made and checked aside: a graph that fails the check never takes the place of a good one.
    with (
        sigterm_unwinding(),
        replacing_set(folder) as scratch,
        tempfile.TemporaryDirectory(prefix="facekit-") as drafts,
    ):
        job = _Job(weights, backend, template, settings, scratch, Path(drafts))
        for target in targets:
            try:
                with working(f"{target.name}: writing and comparing"):
                    differences = job.write(target)
            except FacekitError as error:
                if "all" not in settings.formats:
                    raise
                done.losses.append(Loss.of(target.name, error))
                job.remove(target)
                continue
            kept = _keep_edited(target, scratch, folder, template)
            done.losses += [Loss(str(path), KEPT) for path in kept]
            files = tuple(path for path in target.paths(folder, template.name) if path not in kept)
            done.written.append(Written(target.name, files, differences))
        if done.written:
            path = readme_path(folder)
            before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
            text = readme(job.done, before and unmarked(before, path.suffix))
            if before is not None and DIGEST in before and is_to_keep(path, text):  # those of old had none
                done.losses.append(Loss(str(path), KEPT))
            else:
                write_text(scratch / path.name, marked(text, path.suffix))
                done.readme = path
    return done


def _keep_edited(target: Target, scratch: Path, folder: Path, template: Template) -> list[Path]:
    """Takes those texts out of the scratch folder that must not replace the ones in `folder`, which are returned; the
    others get their marks."""
    kept = []
    places = target.paths(folder, template.name)
    for file, place in zip(target.paths(scratch, template.name), places, strict=True):
        if file.suffix in target.texts:
            text = file.read_text(encoding="utf-8")
            if is_to_keep(place, text):
                kept.append(place)
                file.unlink()
            else:
                write_text(file, marked(text, file.suffix))
    return kept


class _Job:
    """One export on its way."""

    def __init__(
        self, weights: Path, backend: PyTorchBackend, template: Template, settings: ExportSettings, scratch: Path,
        drafts: Path,
    ) -> None:  # fmt: skip
        self.backend, self.template, self.settings = backend, template, settings
        self.scratch, self.drafts = scratch, drafts
        self.done: list[tuple[Target, Draft]] = []  # what was written
        self.onnx: dict[tuple[int, int] | None, Path] = {}  # drafts, by the only size that they take
        backend.network.to(memory_format=torch.contiguous_format)
        self.licence = own_licence(weights)
        self.pictures = check_pictures(settings.check_pictures)

    def write(self, target: Target) -> Differences | None:
        """Writes one format into the scratch folder, and compares it. Raises FacekitError where that fails."""
        graph = self._graph(target)
        draft = Draft(graph, self.template, graph.about, self._onnx(graph) if target.made_from == "onnx" else None,
                      self.settings.options)  # fmt: skip
        module, path = load_target(target), target.paths(self.scratch, self.template.name)[0]
        module.write(draft, path)
        if beside(path) in target.paths(self.scratch, self.template.name):
            write_beside(draft.about, path)
        if not target.runs_here:
            log.info("%s: not compared with PyTorch, as it does not run here.", path.name)
            self.done.append((target, draft))
            return None
        found = None
        for model in target.models(self.scratch, self.template.name):
            opened = module.open_weights(model, self.template, None, None)
            one = self._compared(target, model.name, opened)
            log.info("%s agrees with PyTorch on %d pictures: %s", model.name, len(self.pictures), one)
            found = one if found is None else found.joined(one)
        self.done.append((target, draft))
        if target.name == "onnx" and self.settings.options == GraphOptions():  # else of no use to others
            self.onnx[draft.about.size_hw] = path
        return found

    def _compared(self, target: Target, name: str, opened: Backend) -> Differences:
        asked = self.settings.options
        tolerance = HALF if asked.half and target.name in ("onnx", "openvino") else FLOAT
        compare = verify_faces if asked.nms and target.name == "onnx" else verify_export
        return compare(name, opened, self.backend, self.template, self.pictures, tolerance)

    def _graph(self, target: Target) -> ExportGraph:
        size_hw = self.settings.size_hw
        if size_hw is None and not target.any_size:
            size_hw = self.template.input.size_hw
        graph = ExportGraph(self.backend.network, self.template, size_hw).eval()
        if self.licence is not None:
            graph.about = dataclasses.replace(graph.about, licence=self.licence)
        return graph

    def _onnx(self, graph: ExportGraph) -> Path:
        """The draft that others are made from, which model.onnx of the same size is."""
        size_hw = graph.about.size_hw
        if size_hw not in self.onnx:
            path = self.drafts / f"{len(self.onnx)}.onnx"
            write_graph(graph, path, graph.about)
            self.onnx[size_hw] = path
        return self.onnx[size_hw]

    def remove(self, target: Target) -> None:
        """Takes what a failed format left out of the scratch folder."""
        for path in target.paths(self.scratch, self.template.name):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
