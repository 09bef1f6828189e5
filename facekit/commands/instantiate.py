"""Work dirs: a template.yaml, five thin scripts, and the snapshot."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from facekit.errors import ArgumentError, FacekitError
from facekit.files import check_writable_folder, write_text
from facekit.options import command_options, option, takes

if TYPE_CHECKING:
    from facekit.template import Template

log = logging.getLogger(__name__)

SCRIPTS = {
    "train": "Trains or fine-tunes this work dir's detector.",
    "eval": "Measures weights of this work dir's detector: .pth, .onnx, .xml or .bin.",
    "export": "Exports weights of this work dir's detector to ONNX and OpenVINO.",
    "compress": "Compresses weights of this work dir's detector to INT8, sparse, or both.",
    "visualize": "Shows what this work dir's detector finds in pictures or on video.",
}
_SCRIPT = '''"""{summary} --help lists the flags."""

import sys
from pathlib import Path

try:
    from facekit.cli import run_in_work_dir
except ModuleNotFoundError:
    sys.exit("facekit is not installed for " + sys.executable + ": activate its venv (source venv/bin/activate) first.")

if __name__ == "__main__":
    run_in_work_dir("{command}", Path(__file__).resolve().parent)
'''


@command_options
class InstantiateOptions:
    """Options of an instantiation."""

    template: str = option("Template name, template.yaml or work dir.", positional=True, kw_only=False, template=True)
    work_dir: Path = option("The folder to make.", positional=True, kw_only=False)
    snapshot: Path | None = option(
        "Weights to take instead of the published ones: .pth, or an IR's .xml.", default=None, reads=True
    )
    no_snapshot: bool = option("Make the work dir without weights.", default=False)
    force: bool = option(
        "Write into a folder that holds something else, and over files of a work dir that differ.", default=False
    )

    def __post_init__(self) -> None:
        if self.snapshot is not None and self.no_snapshot:
            raise ArgumentError("Give `snapshot` or `no_snapshot`, not both.")


@takes(InstantiateOptions)
def instantiate(options: InstantiateOptions) -> Path | None:
    """Makes a work dir of a template, its scripts and its snapshot; returns its snapshot.pth, None without.

    In a work dir that is there already, files that differ from what would be written are kept, and named (logged).

    Raises FacekitError where the folder holds something else (and force is not set), and NoSnapshotError, the work dir
    being complete but for the snapshot, where no source of it can be reached.
    """
    from facekit.template import find_template, load_template

    template_path, work_dir = find_template(options.template), options.work_dir
    template = load_template(template_path)
    _refuse_foreign_folder(work_dir, template, options.force)
    check_writable_folder(work_dir)
    texts = {"template.yaml": template_path.read_text(encoding="utf-8")}
    texts |= {f"{name}.py": _SCRIPT.format(command=name, summary=summary) for name, summary in SCRIPTS.items()}
    for name, text in texts.items():
        _write_or_keep(work_dir / name, text, options.force)
    if options.no_snapshot:
        return None
    target = work_dir / "snapshot.pth"
    if target.exists() and not options.force:
        log.info("Kept: %s is there already. `force=True` replaces it.", target)
        return target
    _import_snapshot(options.snapshot, load_template(work_dir / "template.yaml"), target)
    return target


def _write_or_keep(path: Path, text: str, force: bool) -> None:
    """A file that somebody has edited stays as it is, unless forced."""
    try:
        before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
    except OSError as error:
        raise FacekitError(f"{path}: can't be read ({error.strerror}). Move it away.") from error
    if before == text:
        return
    if before is not None and not force:
        log.info("Kept: %s, which differs from what would be written. `force=True` replaces it.", path)
        return
    if before is not None:
        log.info("Replaced: %s, which differed", path)
    write_text(path, text)


def _import_snapshot(snapshot: Path | None, template: Template, target: Path) -> None:
    from facekit.weights.checkpoint import save_checkpoint
    from facekit.weights.load import load_weights
    from facekit.weights.snapshots import fetch_snapshot

    source = snapshot or fetch_snapshot(template)
    save_checkpoint(target, load_weights(source, template))
    log.info("Snapshot %s imported to %s", source, target)


def _refuse_foreign_folder(work_dir: Path, template: Template, force: bool) -> None:
    if work_dir.exists() and not work_dir.is_dir():
        raise FacekitError(f"{work_dir}: is a file, not a folder. Choose another work dir.")
    if force or not work_dir.is_dir() or not any(work_dir.iterdir()):
        return
    held = work_dir / "template.yaml"
    if not held.is_file():
        raise FacekitError(f"{work_dir}: is not empty and no work dir. Choose another folder, or give `force=True`.")
    from facekit.template import load_template

    try:
        name = load_template(held).name
    except FacekitError:
        name = "something unreadable"
    if name != template.name:
        raise FacekitError(
            f"{work_dir}: is the work dir of {name}, not of {template.name}. Choose another folder, or give "
            f"`force=True`."
        )
