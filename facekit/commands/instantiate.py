"""Work dirs: a template.yaml, five thin scripts, and the snapshot."""

from __future__ import annotations

import logging
from pathlib import Path

from facekit.errors import FacekitError
from facekit.files import check_writable_folder, write_text
from facekit.template import Template, load_template
from facekit.weights.checkpoint import save_checkpoint
from facekit.weights.load import load_weights
from facekit.weights.snapshots import fetch_snapshot

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


def instantiate(
    template_path: Path, work_dir: Path, snapshot: Path | None = None, no_snapshot: bool = False, force: bool = False
) -> Path | None:
    """Makes the work dir and returns its snapshot.pth; None with no_snapshot.

    Raises FacekitError where the folder holds something else (and force is not set), and NoSnapshotError, the work dir
    being complete but for the snapshot, where no source of it can be reached.
    """
    template = load_template(template_path)
    _refuse_foreign_folder(work_dir, template, force)
    check_writable_folder(work_dir)
    write_text(work_dir / "template.yaml", template_path.read_text(encoding="utf-8"))
    for command, summary in SCRIPTS.items():
        write_text(work_dir / f"{command}.py", _SCRIPT.format(command=command, summary=summary))
    if no_snapshot:
        return None
    target = work_dir / "snapshot.pth"
    source = snapshot or fetch_snapshot(template)
    save_checkpoint(target, load_weights(source, template))
    log.info("Snapshot %s imported to %s", source, target)
    return target


def _refuse_foreign_folder(work_dir: Path, template: Template, force: bool) -> None:
    if work_dir.exists() and not work_dir.is_dir():
        raise FacekitError(f"{work_dir}: is a file, not a folder. Choose another work dir.")
    if force or not work_dir.is_dir() or not any(work_dir.iterdir()):
        return
    held = work_dir / "template.yaml"
    if not held.is_file():
        raise FacekitError(f"{work_dir}: is not empty and no work dir. Choose another folder, or give --force.")
    try:
        name = load_template(held).name
    except FacekitError:
        name = "something unreadable"
    if name != template.name:
        raise FacekitError(
            f"{work_dir}: is the work dir of {name}, not of {template.name}. Choose another folder, or give --force."
        )
