"""Work dirs: a template.yaml, five thin scripts, and the snapshot."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from facekit.base.files import check_outputs, check_writable_folder, replacing_set, write_text
from facekit.base.options import check_folder_name, command_options, option, takes
from facekit.commands.inputs import BUNDLED, BUNDLED_TEMPLATE, bundled_checkpoint
from facekit.errors import ArgumentError, FacekitError

if TYPE_CHECKING:
    from facekit.template import Template

log = logging.getLogger(__name__)

SCRIPTS = {
    "train": "Trains or fine-tunes this work dir's detector.",
    "eval": "Measures weights of this work dir's detector: .pth, .onnx, .xml or another exported file.",
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
        "Weights to take instead of the published ones: .pth, or an IR's .xml; bundled: facekit's own yunet-n.",
        default=None, reads=True, names=(BUNDLED,),
    )  # fmt: skip
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
    held = _held_template(work_dir)
    _refuse_foreign_folder(work_dir, template, held, options.force)
    check_folder_name("work_dir", work_dir)
    check_writable_folder(work_dir)
    if options.force:
        check_outputs([options.snapshot], [work_dir / "snapshot.pth"])
    texts = {"template.yaml": template_path.read_text(encoding="utf-8")}
    texts |= {f"{name}.py": _SCRIPT.format(command=name, summary=summary) for name, summary in SCRIPTS.items()}
    missing: FacekitError | None = None
    said: list[str] = []  # once it has happened
    with replacing_set(work_dir) as new:  # scripts, template and snapshot of one template, or those of before
        for name, text in texts.items():
            if _is_to_write(work_dir / name, text, options.force, said):
                write_text(new / name, text)
        if not options.no_snapshot and _is_to_write(work_dir / "snapshot.pth", None, options.force, said):
            place = new if (new / "template.yaml").exists() else work_dir
            own = load_template(place / "template.yaml")
            missing = _import_snapshot(options.snapshot, own, new / "snapshot.pth", said)
        stays = (work_dir / "snapshot.pth").exists() and not (new / "snapshot.pth").exists()
        if stays and options.force:
            said = [line for line in said if "snapshot.pth" not in line]
            whose = "" if held == template.name else f" of {held}, not {template.name}'s. Give `snapshot`, or delete it"
            said.append(f"Kept: {work_dir / 'snapshot.pth'}, the weights that lay there{whose}.")
    for line in said:
        log.info("%s", line)
    if missing is not None:
        raise missing
    return None if options.no_snapshot else work_dir / "snapshot.pth"


def _is_to_write(path: Path, text: str | None, force: bool, said: list[str]) -> bool:
    """Whether the file is missing or, forced, another one. What somebody has edited stays as it is, unless forced."""
    if not path.exists():
        return True
    if text is not None:
        try:
            if path.read_text(encoding="utf-8", errors="replace") == text:
                return False
        except OSError as error:
            raise FacekitError(f"{path}: can't be read ({error.strerror}). Move it away.") from error
    differs = "is there already" if text is None else "differs from what would be written"
    if force:
        said.append(f"Replaced: {path}, which {'was there' if text is None else 'differed'}")
    else:
        said.append(f"Kept: {path}, which {differs}. `force=True` replaces it.")
    return force


def _import_snapshot(snapshot: Path | None, template: Template, target: Path, said: list[str]) -> FacekitError | None:
    """Returns the reason where no source of it can be reached: the work dir is usable otherwise."""
    from facekit.weights.checkpoint import save_checkpoint
    from facekit.weights.load import load_weights
    from facekit.weights.snapshots import NoSnapshotError, fetch_snapshot

    is_of_bundled = template.name == BUNDLED_TEMPLATE
    if str(snapshot) == BUNDLED:
        snapshot = bundled_checkpoint(template, "snapshot")
    try:
        source = snapshot or fetch_snapshot(template)
    except NoSnapshotError as error:
        own = f"\n  Or take facekit's own weights: `snapshot={BUNDLED}`." if is_of_bundled else ""
        return NoSnapshotError(f"{error}{own}")
    save_checkpoint(target, load_weights(source, template))
    said.append(f"Snapshot {source} imported")
    return None


def _held_template(work_dir: Path) -> str | None:
    """The name of the template whose work dir it is; None where it is none."""
    from facekit.template import load_template

    held = work_dir / "template.yaml"
    if not held.is_file():
        return None
    try:
        return load_template(held).name
    except FacekitError:
        return "something unreadable"


def _refuse_foreign_folder(work_dir: Path, template: Template, held: str | None, force: bool) -> None:
    if work_dir.exists() and not work_dir.is_dir():
        raise FacekitError(f"{work_dir}: is a file, not a folder. Choose another work dir.")
    if force or not work_dir.is_dir() or not any(work_dir.iterdir()):
        return
    if held is None:
        raise FacekitError(f"{work_dir}: is not empty and no work dir. Choose another folder, or give `force=True`.")
    if held != template.name:
        raise FacekitError(
            f"{work_dir}: is the work dir of {held}, not of {template.name}. Choose another folder, or give "
            f"`force=True`."
        )
