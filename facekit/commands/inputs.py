"""What several commands read: templates, labelled pictures, and the weights of a work dir."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekit.base.files import note_inputs
from facekit.base.nearest import did_you_mean_path
from facekit.errors import ArgumentError, FacekitError

if TYPE_CHECKING:
    from facekit.cluster.packed import PackedDetector
    from facekit.detector import Detector, Passes
    from facekit.labels.picture_labels import PictureLabels
    from facekit.template import Template

log = logging.getLogger(__name__)

BUNDLED, BUNDLED_TEMPLATE = "bundled", "yunet-n"  # the name for weights that come with facekit


def read_template(name: str) -> Template:
    """Of a template's name, a template.yaml or a work dir."""
    from facekit.template import find_template, load_template

    return load_template(find_template(name))


def read_label_files(files: Sequence[Path], roots: Sequence[Path], kind: str) -> list[PictureLabels]:
    """Pictures of all the files, each with its own root. `kind` (train, val, test) names the options of both."""
    check_roots(files, roots, f"{kind}_ann_files", f"{kind}_data_roots")
    if not files:
        return []
    from facekit.labels.formats import read_labels
    from facekit.labels.picture_labels import check_listed_once

    each: Sequence[Path | None] = roots or [None] * len(files)
    pictures = [picture for file, root in zip(files, each, strict=True) for picture in read_labels(file, root)]
    check_listed_once(pictures, ", ".join(map(str, files)))
    return pictures


def check_roots(files: Sequence[Path], roots: Sequence[Path], files_name: str, roots_name: str) -> None:
    """Raises ArgumentError, which names the two options, unless there is a root a file, or none at all."""
    if roots and len(files) != len(roots):
        raise ArgumentError(
            f"`{files_name}` names {len(files)} files, `{roots_name}` {len(roots)} folders: one a file."
        )


def find_weights(load_weights: Path | None, template: str) -> Path:
    """The weights to use: those that were given, or else the best or newest of the work dir that `template` names.

    Raises ArgumentError where neither is there.
    """
    if load_weights is not None:
        return load_weights
    from facekit.targets.table import WEIGHT_SUFFIXES

    folder = Path(template) if Path(template).is_dir() else Path(template).parent
    snapshot, best, latest = (folder / name for name in ("snapshot.pth", "outputs/best.pth", "outputs/latest.pth"))
    if not (folder / "template.yaml").is_file() or not any(path.is_file() for path in (snapshot, best, latest)):
        if folder != Path(template):
            raise ArgumentError("Give `load_weights`, or a work dir with weights as `template`.")
        if folder.suffix.lower() == ".mlpackage":
            from facekit.weights.missing import missing_weights

            raise missing_weights(folder)
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in WEIGHT_SUFFIXES)
        remedy = f"Give the file: {files[0]}." if files else "Give a file of weights, or such a folder."
        raise ArgumentError(
            f"{folder}: no work dir with weights (template.yaml, and snapshot.pth or outputs/best.pth). {remedy}"
        )
    weights = _newest(snapshot, best, latest)
    note_inputs([weights])
    return weights


def find_detector(
    load_weights: Path | None, template: str | None, bundled: str = "facekit.pth"
) -> tuple[Template, Path]:
    """A template and its weights: those that were given, which may name their template themselves, a work dir's, or
    those that come with facekit (their file is `bundled`).

    Raises FacekitError where one of the two can't be told, or can't be read.
    """
    if str(load_weights) == BUNDLED:
        _check_bundled(template)
        loaded = read_template(BUNDLED_TEMPLATE)
        from facekit.template import TEMPLATES_DIR

        return loaded, TEMPLATES_DIR / BUNDLED_TEMPLATE / bundled
    if template is None and load_weights is not None:
        return _named_template(load_weights), load_weights
    if template is None:
        raise ArgumentError("Give `load_weights`, or a work dir with weights as `template`.")
    return read_template(template), find_weights(load_weights, template)


def find_measured(load_weights: Path | None, template: str | None, layout: str | None) -> tuple[Template, Path]:
    """As find_detector, of what runs as it is: others' files too, whose outputs tell what they are, or `layout` does.

    Raises FacekitError where neither does.
    """
    from facekit.targets.reading.outputs import GRAPH_SUFFIXES

    _check_layout(load_weights, template, layout)
    if load_weights is None or template is not None or load_weights.suffix.lower() not in GRAPH_SUFFIXES:
        return find_detector(load_weights, template, "facekit.onnx")
    from facekit.targets import open_backend
    from facekit.targets.table import target_of
    from facekit.weights.identify import template_of_weights

    target = target_of(load_weights)
    is_graph = target is not None and target.name in ("onnx", "openvino")
    if layout is None and is_graph and template_of_weights(load_weights) is not None:
        return _named_template(load_weights), load_weights
    return open_backend(load_weights, threads=1, layout=layout).template, load_weights


def _named_template(weights: Path) -> Template:
    """The template that weights name themselves; of an exported file with the thresholds that it was exported with."""
    from facekit.targets.reading.about import parse_about, template_for
    from facekit.targets.table import target_of
    from facekit.weights.identify import said_by_graph, template_of_weights

    target = target_of(weights)
    if target is not None and target.name not in ("pytorch", "onnx", "openvino"):
        from facekit.targets import open_backend

        return open_backend(weights).template
    said = parse_about(said_by_graph(weights), weights)
    return template_for(None, said, weights, template_of_weights(weights))


def _check_bundled(template: str | None) -> None:
    if template not in (None, BUNDLED_TEMPLATE):
        raise ArgumentError(f"`load_weights={BUNDLED}` is a {BUNDLED_TEMPLATE}: leave `template={template}` out.")


def bundled_checkpoint(template: Template, option: str) -> Path:
    """The .pth that comes with facekit, for the option of that name. Raises ArgumentError for another template."""
    from facekit.template import TEMPLATES_DIR

    if template.name != BUNDLED_TEMPLATE:
        raise ArgumentError(f"`{option}={BUNDLED}` is a {BUNDLED_TEMPLATE}, not a {template.name}. Leave it out.")
    return TEMPLATES_DIR / BUNDLED_TEMPLATE / "facekit.pth"


def _newest(snapshot: Path, best: Path, latest: Path) -> Path:
    """The one to use, which is said."""
    snapshot_time = _time(snapshot)
    if _time(best) > snapshot_time:
        log.info("Weights: %s, the best of the work dir's training", best)
        return best
    if _time(latest) > snapshot_time:
        log.info("Weights: %s, the newest of the work dir's training, in which nothing was measured", latest)
        return latest
    trained = " (outputs/ holds older ones)" if max(_time(best), _time(latest)) >= 0 else ""
    log.info("Weights: %s, the work dir's snapshot%s", snapshot, trained)
    return snapshot


def passes_of(scale: float = 1.0, longest_side: int | None = None) -> Passes:
    """How commands that look for faces do so: for large ones, too."""
    from facekit.detector import Passes

    return Passes((scale,), longest_side=longest_side, large_faces=True)


@dataclass(frozen=True)
class Choice:
    """Weights, and the template that the user names; without weights the bundled detector."""

    weights: Path | None
    template: str | None
    threads: int | None = None
    backend: str | None = None
    layout: str | None = None

    def open(self, passes: Passes | None = None) -> Detector:
        """`passes`: None for one plain look, and for large faces. Raises FacekitError for weights that are damaged, of
        another detector, or name no template themselves."""
        from facekit.detector import Detector

        passes = passes or passes_of()
        if self.weights is None:
            return Detector.bundled(passes=passes, threads=self.threads, backend=self.backend)
        return Detector.open(
            self.weights, self.template, passes=passes, threads=self.threads, backend=self.backend, layout=self.layout
        )

    def takes_threads(self) -> bool:
        """Whether the runtime can be told how many."""
        from facekit.targets import takes_threads

        return self.weights is None or takes_threads(self.weights, self.backend)

    def packed(self, passes: Passes | None = None, threads: int | None = None) -> PackedDetector:
        """To be opened elsewhere, with so many threads. Raises FacekitError for weights that can't be read."""
        from facekit.cluster.packed import PackedDetector

        return PackedDetector.of(self.weights, self.template, passes, threads, self.backend, self.layout)


def choose_detector(
    load_weights: Path | None,
    template: str | None,
    threads: int | None = None,
    backend: str | None = None,
    layout: str | None = None,
) -> Choice:
    """Weights that are given, which may name their template themselves; of a work dir; or, with neither, the bundled.

    Raises ArgumentError for a template without weights, and for a layout without any or beside a template.
    """
    _check_layout(load_weights, template, layout)
    if str(load_weights) == BUNDLED or (load_weights is None and template is None):
        _check_bundled(template)
        return Choice(None, None, threads, backend)
    weights = load_weights if template is None else find_weights(load_weights, template)
    return Choice(weights, template, threads, backend, layout)


def _check_layout(load_weights: Path | None, template: str | None, layout: str | None) -> None:
    if layout is not None and (load_weights is None or str(load_weights) == BUNDLED or template is not None):
        raise ArgumentError(f"`layout={layout}` says what others' weights are: give `load_weights`, and no `template`.")


def choose_model(
    model: str | None, threads: int | None = None, backend: str | None = None, layout: str | None = None
) -> Choice:
    """Of weights, a work dir, or a template's name: that one's published weights, from the cache or the network; the
    bundled detector's for `yunet-n`, `bundled` and None. Raises FacekitError for a name that is none of them."""
    from facekit.targets.table import WEIGHT_SUFFIXES

    if layout is not None and Path(str(model)).suffix.lower() not in WEIGHT_SUFFIXES:
        raise ArgumentError(f"`layout={layout}` says what others' weights are: give their file as `model`.")
    if model in (None, BUNDLED, BUNDLED_TEMPLATE) and not Path(str(model)).exists():
        return Choice(None, None, threads, backend)
    path = Path(str(model))
    if path.is_dir() or path.name == "template.yaml":
        return choose_detector(None, str(model), threads, backend)
    if path.suffix.lower() in WEIGHT_SUFFIXES:
        if not path.exists():
            raise FacekitError(f"`model={model}`: there is no such file.{did_you_mean_path(path)}")
        note_inputs([path])
        return Choice(path, None, threads, backend, layout)
    if path.is_file() and path.suffix.lower() not in (".yaml", ".yml"):
        kinds = ", ".join(WEIGHT_SUFFIXES)
        raise FacekitError(f"{path}: unknown kind of weights; expected one of {kinds}, or a template.yaml.")
    from facekit.weights.snapshots import fetch_snapshot

    template = read_template(str(model))
    return Choice(fetch_snapshot(template), template.name, threads, backend)


def _time(path: Path) -> float:
    """When the file was written; -1 where there is none."""
    return path.stat().st_mtime if path.is_file() else -1.0
