"""Does every format of every template find what PyTorch finds? python tools/format_table.py [--record]

For each template whose published weights lie in FACEKIT_SHARED or ../shared, and each format that is installed: the
weights are exported, the file is opened without naming its template, and 50 pictures of WIDER FACE's validation set go
through it and through PyTorch. Each face of either is matched with the nearest of the other's; the largest differences
of scores, boxes and landmarks are printed. A format of one size is compared with PyTorch on pictures fitted into that
size. Templates without published weights get random ones, of which every prior is compared, on ten pictures. What is
done is kept in --work and not done again; --record writes the table into docs/format-parity.md.
Exit code 1 where a cell is beyond 0.001, 0.5 and 0.5 pixels.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import torch
import yaml
from lively import enliven

from facekit import Detector, __version__
from facekit.base.files import write_text
from facekit.cli import run_command
from facekit.errors import FacekitError
from facekit.feed import fitted, prepare
from facekit.models import build_model
from facekit.ops.pixels import normalise
from facekit.pictures.read import read_picture
from facekit.structures import Detections
from facekit.targets import open_backend
from facekit.targets.pytorch import PyTorchBackend
from facekit.targets.table import FORMATS, TARGETS, missing_packages
from facekit.targets.writing.check_pictures import check_pictures
from facekit.targets.writing.export import ExportSettings, export_weights
from facekit.targets.writing.verify import Differences, Tolerance, compare_faces, verify_export
from facekit.template import Template, find_template, load_template
from facekit.web.page import MODEL as PAGE_MODEL
from facekit.weights.checkpoint import Checkpoint, new_meta, save_checkpoint

PROJECT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("FACEKIT_SHARED", PROJECT.parent / "shared"))
TEMPLATES = PROJECT / "model_templates" / "face-detection"
PAGE = PROJECT / "docs" / "format-parity.md"
PICTURES = 50
ALLOWED = Tolerance(scores=1e-3, places_px=0.5)
LEAST_SPREAD, MOST_SPREAD = 0.05, 20.0  # standard deviations of what random weights give
RUNTIMES = ("torch", "onnxruntime", "openvino", "opencv-python", "ncnn", "MNN", "executorch", "ai-edge-litert")
RUN_BY_NAME = {"opencv": "onnx"}  # runtimes that run another format's file
RUNTIMES_OF = {"opencv4": "opencv", "web": "onnx"}  # formats that are run by another's runtime


def pictures() -> list[Path]:
    """Evenly spread over the validation set."""
    found = sorted((SHARED / "data" / "widerface" / "WIDER_val").rglob("*.jpg"))
    return [found[number * len(found) // PICTURES] for number in range(PICTURES)]


class Reference:
    """What PyTorch finds, for each size that a format's file may be bound to."""

    def __init__(self, weights: Path, template: Template) -> None:
        self.backend, self.template = PyTorchBackend.from_file(weights, template, "cpu"), template
        self.faces: dict[tuple[int, int] | None, list[Detections]] = {}

    def of(self, fixed_size_hw: tuple[int, int] | None) -> list[Detections]:
        fed_by = fitted(self.template, fixed_size_hw)
        key = None if fed_by == self.template else fixed_size_hw
        if key not in self.faces:
            detector = Detector(self.backend, fed_by)
            self.faces[key] = [detector.detect(read_picture(path)) for path in pictures()]
        return self.faces[key]


def cell(format: str, weights: Path, reference: Reference, folder: Path) -> dict[str, Any]:
    """The figures of one format, or why there are none."""
    template = reference.template
    target = TARGETS[RUN_BY_NAME.get(format, format)]
    if target.architectures and template.model.architecture not in target.architectures:
        return {"not": f"for {', '.join(target.architectures)} alone"}
    try:
        export_weights(weights, template, folder, ExportSettings((target.name,)))
        if not target.runs_here:
            return {"not": "written, not run here"}
        found = Differences()
        models = target.models(folder, template.name)
        for model in models:
            if format == "web":  # the page's; a browser is what runs it else
                model = model.with_name(PAGE_MODEL)
            detector = Detector.open(
                model, template if format == "opencv" else None, threads=1, backend=RUNTIMES_OF.get(format, format)
            )
            for path, expected in zip(pictures(), reference.of(detector.backend.fixed_size_hw), strict=True):
                got = detector.detect(read_picture(path))
                least = template.evaluation.score_threshold + ALLOWED.scores
                found = found.joined(compare_faces(expected, got, least))
        counted = sum(len(faces.above(least)) for faces in reference.of(detector.backend.fixed_size_hw))
    except FacekitError as error:
        return {"not": str(error).replace(str(folder), "")[:300]}
    return {**asdict(found), "faces": counted, "is_within": found.within(ALLOWED)}


def random_weights(template: Template, path: Path) -> None:
    """Raises FacekitError where the network says next to the same of every prior: that would prove nothing."""
    torch.manual_seed(3)
    network = build_model(template)
    fed = [torch.from_numpy(prepare(read_picture(picture), template)[0]) for picture in pictures()[:4]]
    shape = tuple(min(sides) for sides in zip(*(image.shape[:2] for image in fed), strict=True))
    blobs = [normalise(image[: shape[0], : shape[1]].permute(2, 0, 1)[None], template.input) for image in fed]
    noise = normalise(torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8), template.input)  # exports try it too
    enliven(network, [torch.cat(blobs[:2]), torch.cat(blobs[2:]), noise])
    with torch.no_grad():
        spreads = [float(part.std()) for part in network(blobs[0]) if part is not None]
    if not all(LEAST_SPREAD < spread < MOST_SPREAD for spread in spreads):
        raise FacekitError(f"{template.name}: random weights give outputs that spread by {spreads}.")
    save_checkpoint(path, Checkpoint(new_meta(template, 1, 1), network.state_dict()))


def cell_of_priors(format: str, weights: Path, template: Template, folder: Path) -> dict[str, Any]:
    """What an export's own comparison gives: all priors, on its three pictures and seven more."""
    target = TARGETS[RUN_BY_NAME.get(format, format)]
    if target.architectures and template.model.architecture not in target.architectures:
        return {"not": f"for {', '.join(target.architectures)} alone"}
    settings = ExportSettings((target.name,), check_pictures=tuple(pictures()[:7]))
    try:
        (written,) = export_weights(weights, template, folder, settings).written
        found = written.differences
        if format in RUN_BY_NAME:
            backend = open_backend(written.files[0], template, backend=format)
            reference = PyTorchBackend.from_file(weights, template, "cpu")
            fed = check_pictures(settings.check_pictures)
            found = verify_export(format, backend, reference, template, fed, ALLOWED)
    except FacekitError as error:
        return {"not": str(error).replace(str(folder), "")[:300]}
    if found is None:
        return {"not": "written, not run here"}
    return {**asdict(found), "is_within": found.within(ALLOWED)}


@click.command()
@click.option("--templates", help="Only these, comma-separated [all].")
@click.option("--formats", help="Only these, comma-separated [all that are installed, and opencv].")
@click.option("--work", type=click.Path(path_type=Path), default=Path("format_table.json"), show_default=True)
@click.option("--record", is_flag=True, help="Write docs/format-parity.md of what is in --work.")
def main(templates: str | None, formats: str | None, work: Path, record: bool) -> None:
    """Print the largest differences, template by format."""
    measured = yaml.safe_load((TEMPLATES / "measured.yaml").read_text(encoding="utf-8"))
    done: dict[str, dict[str, Any]] = json.loads(work.read_text()) if work.is_file() else {}
    installed = [name for name in FORMATS if not missing_packages(TARGETS[name])]
    names = formats.split(",") if formats else [*installed, *RUN_BY_NAME]
    known = sorted(path.parent.name for path in TEMPLATES.glob("*/template.yaml"))
    for name in templates.split(",") if templates else known:
        row = done.setdefault(name, {})
        if all(format in row for format in names):
            continue
        if name not in measured:
            fill_of_priors(load_template(find_template(name)), names, row)
            write_text(work, json.dumps(done, indent=1))
            continue
        weights = SHARED / measured[name][0]["weights"]
        if not weights.is_file():
            weights = SHARED / "weights" / measured[name][0]["weights"]
        reference = Reference(weights, load_template(find_template(name)))
        for format in names:
            if format not in row:
                with tempfile.TemporaryDirectory(prefix="facekit-formats-") as folder:
                    row[format] = cell(format, weights, reference, Path(folder))
                click.echo(f"{name} {format}: {text(row[format])}")
                write_text(work, json.dumps(done, indent=1))
    if record:
        write_text(PAGE, page(done))
    if any(figures.get("is_within") is False for row in done.values() for figures in row.values()):
        raise SystemExit(1)


def fill_of_priors(template: Template, names: list[str], row: dict[str, dict[str, Any]]) -> None:
    """The row of a template without published weights."""
    with tempfile.TemporaryDirectory(prefix="facekit-formats-") as folder:
        weights = Path(folder) / "random.pth"
        random_weights(template, weights)
        for format in names:
            if format not in row:
                row[format] = cell_of_priors(format, weights, template, Path(folder) / format)
                click.echo(f"{template.name} {format}: {text(row[format])}")


def text(figures: dict[str, Any]) -> str:
    """score / box / landmarks, the last two in pixels."""
    if "not" in figures:
        return str(figures["not"])
    marks = "" if figures["landmarks_px"] is None else f" / {figures['landmarks_px']:.1g}"
    mark = "" if figures["is_within"] else " **beyond**"
    return f"{figures['scores']:.1g} / {figures['boxes_px']:.1g}{marks}{mark}"


def page(done: dict[str, dict[str, Any]]) -> str:
    """docs/format-parity.md, whole; reasons that are long stand below the table."""
    columns = [name for name in (*FORMATS, *RUN_BY_NAME) if any(name in row for row in done.values())]
    notes: list[str] = []
    lines = [f"| template | faces | {' | '.join(columns)} |", "| --- |" + " --- |" * (1 + len(columns))]
    for name, row in sorted(done.items()):
        faces = max((figures.get("faces", 0) for figures in row.values()), default=0) or "priors"
        cells = []
        for column in columns:
            words = text(row[column]) if column in row else "-"
            if len(words) > 45:
                if words not in notes:
                    notes.append(words)
                words = f"no ({notes.index(words) + 1})"
            cells.append(words)
        lines.append(f"| {name} | {faces} | {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in RUNTIMES)
    return "\n".join([
        "# Formats against PyTorch", "",
        f"The largest differences between what each format's file and PyTorch find on {PICTURES} pictures of WIDER",
        "FACE's validation set, published weights, each template's own protocol: of scores, of box corners and of",
        "landmarks in pixels. `faces` is how many PyTorch finds over the template's threshold. Allowed are 0.001, 0.5",
        "and 0.5. Formats of one size are compared with PyTorch on pictures fitted into that size. A dash: not",
        "measured. The 8 pixels of ultralight-slim-320 are one face of 19,595: two priors of a cell see it, scores",
        "0.10543412 and 0.10543409 in PyTorch, and equal ones elsewhere, so that suppression keeps the other box.",
        "`priors`: weights that were not published, or are not at hand: random ones whose batch norms have seen",
        "pictures, every prior on ten pictures. They are steeper than learnt ones, and so are their differences.", "",
        *lines, "", *(f"{number}. {note}" for number, note in enumerate(notes, 1)), *([""] if notes else []),
        f"Written by `python tools/format_table.py --record`, facekit {__version__}, {platform.machine()}:",
        f"{versions}.", "",
    ])  # fmt: skip


if __name__ == "__main__":
    run_command(main)
