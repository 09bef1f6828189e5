from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from facekit.commands.instantiate import instantiate
from facekit.errors import ArgumentError, FacekitError
from facekit.models import build_model
from facekit.template import TEMPLATES_DIR, find_template, load_template
from facekit.weights.checkpoint import Checkpoint, new_meta, save_checkpoint
from facekit.weights.load import load_weights
from facekit.weights.snapshots import NoSnapshotError

YUNET = TEMPLATES_DIR / "yunet-n" / "template.yaml"
SSD = TEMPLATES_DIR / "face-detection-0200" / "template.yaml"
SCRIPTS = ("train.py", "eval.py", "export.py", "compress.py", "visualize.py")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of yunet-n after 7 epochs."""
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    template = load_template(YUNET)
    save_checkpoint(path, Checkpoint(new_meta(template, 7, 70), build_model(template).state_dict()))
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestInstantiate:
    def test_a_files_name_is_no_work_dirs(self, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match=r"`work_dir=.*: a name with a suffix is a file"):
            instantiate("yunet-n", tmp_path / "wd.yaml", no_snapshot=True)
        assert not (tmp_path / "wd.yaml").exists()
        instantiate("yunet-n", tmp_path / "wd-0.5", no_snapshot=True)

    def test_makes_template_and_scripts(self, tmp_path: Path) -> None:
        work_dir = tmp_path / "new" / "work"
        assert instantiate(YUNET, work_dir, no_snapshot=True) is None
        assert names(work_dir) == {"template.yaml", *SCRIPTS}
        assert (work_dir / "template.yaml").read_bytes() == YUNET.read_bytes()
        assert find_template(str(work_dir)) == work_dir / "template.yaml"

    @pytest.mark.parametrize("script", SCRIPTS)
    def test_scripts_are_thin(self, tmp_path: Path, script: str) -> None:
        instantiate(YUNET, tmp_path / "work", no_snapshot=True)
        text = (tmp_path / "work" / script).read_text()
        compile(text, script, "exec")
        assert len(text.splitlines()) <= 20
        assert f'run_in_work_dir("{script.removesuffix(".py")}"' in text
        assert str(tmp_path) not in text  # or it would not survive being moved

    def test_a_snapshot_that_would_be_written_over(
        self, tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        target = instantiate(YUNET, tmp_path / "work", snapshot=weights)
        assert target is not None
        caplog.clear()
        caplog.set_level("INFO", "facekit")
        with pytest.raises(FacekitError, match="would be written over"):
            instantiate(YUNET, tmp_path / "work", snapshot=target, force=True)
        assert not caplog.messages

    def test_snapshot_from_a_checkpoint(self, tmp_path: Path, weights: Path) -> None:
        target = instantiate(YUNET, tmp_path / "work", snapshot=weights)
        assert target == tmp_path / "work" / "snapshot.pth"
        template = load_template(YUNET)
        mine, theirs = load_weights(target, template), load_weights(weights, template)
        assert mine.epoch == 7
        assert all(torch.equal(mine.state_dict[name], theirs.state_dict[name]) for name in theirs.state_dict)

    def test_snapshot_of_another_template(self, tmp_path: Path, weights: Path) -> None:
        with pytest.raises(FacekitError, match="made for template 'yunet-n'"):
            instantiate(SSD, tmp_path / "work", snapshot=weights)
        assert "snapshot.pth" not in names(tmp_path / "work")

    def test_published_snapshot_from_shared_weights(self, tmp_path: Path, shared_dir: Path) -> None:
        target = instantiate(SSD, tmp_path / "work", snapshot=shared_dir / "weights/openvino/face-detection-0200.xml")
        assert target is not None
        assert load_weights(target, load_template(SSD)).epoch == 70

    def test_no_snapshot_leaves_it_usable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreachable(_: object) -> Path:
            raise NoSnapshotError("no network")

        monkeypatch.setattr("facekit.weights.snapshots.fetch_snapshot", unreachable)
        with pytest.raises(NoSnapshotError):
            instantiate(YUNET, tmp_path / "work")
        assert names(tmp_path / "work") == {"template.yaml", *SCRIPTS}
        assert load_template(tmp_path / "work" / "template.yaml").name == "yunet-n"

    def test_fetched_snapshot_is_imported(self, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("facekit.weights.snapshots.fetch_snapshot", lambda template: weights)
        assert instantiate(YUNET, tmp_path / "work") == tmp_path / "work" / "snapshot.pth"

    def test_broken_template_makes_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "template.yaml").write_text("name: a\n")
        with pytest.raises(FacekitError, match="missing key"):
            instantiate(tmp_path / "template.yaml", tmp_path / "work", no_snapshot=True)
        assert names(tmp_path) == {"template.yaml"}


class TestRefusal:
    def test_folder_with_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(FacekitError, match=rf"{tmp_path}: is not empty and no work dir\..*`force=True`"):
            instantiate(YUNET, tmp_path, no_snapshot=True)
        assert names(tmp_path) == {"thesis.tex"}

    def test_force(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        instantiate(YUNET, tmp_path, no_snapshot=True, force=True)
        assert names(tmp_path) == {"thesis.tex", "template.yaml", *SCRIPTS}
        assert (tmp_path / "thesis.tex").read_text() == "years of work"

    def test_empty_folder(self, tmp_path: Path) -> None:
        instantiate(YUNET, tmp_path, no_snapshot=True)
        assert names(tmp_path) == {"template.yaml", *SCRIPTS}

    def test_another_templates_work_dir(self, tmp_path: Path) -> None:
        instantiate(YUNET, tmp_path, no_snapshot=True)
        with pytest.raises(FacekitError, match=r"work dir of yunet-n, not of face-detection-0200.*`force=True`"):
            instantiate(SSD, tmp_path, no_snapshot=True)
        assert load_template(tmp_path / "template.yaml").name == "yunet-n"
        instantiate(SSD, tmp_path, no_snapshot=True, force=True)
        assert load_template(tmp_path / "template.yaml").name == "face-detection-0200"

    def test_same_template_twice(self, tmp_path: Path, weights: Path) -> None:
        instantiate(YUNET, tmp_path, no_snapshot=True)
        (tmp_path / "outputs").mkdir()
        instantiate(YUNET, tmp_path, snapshot=weights)
        assert names(tmp_path) == {"template.yaml", "snapshot.pth", "outputs", *SCRIPTS}

    def test_work_dir_as_its_own_template(self, tmp_path: Path) -> None:
        instantiate(YUNET, tmp_path, no_snapshot=True)
        instantiate(tmp_path / "template.yaml", tmp_path, no_snapshot=True)
        assert load_template(tmp_path / "template.yaml").name == "yunet-n"

    def test_unreadable_template_in_it(self, tmp_path: Path) -> None:
        (tmp_path / "template.yaml").write_text("nonsense")
        with pytest.raises(FacekitError, match="work dir of something unreadable"):
            instantiate(YUNET, tmp_path, no_snapshot=True)

    def test_file(self, tmp_path: Path) -> None:
        (tmp_path / "work").touch()
        for force in (False, True):
            with pytest.raises(FacekitError, match="is a file, not a folder"):
                instantiate(YUNET, tmp_path / "work", no_snapshot=True, force=force)

    def test_unwritable(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for place in (tmp_path / "file" / "work", Path("/proc/work")):
            with pytest.raises(FacekitError, match="can't write there"):
                instantiate(YUNET, place, no_snapshot=True)


class TestScripts:
    def test_run_from_anywhere_after_a_move(self, tmp_path: Path) -> None:
        instantiate(YUNET, tmp_path / "work", no_snapshot=True)
        shutil.move(tmp_path / "work", tmp_path / "moved")
        (tmp_path / "elsewhere").mkdir()
        command = [sys.executable, "../moved/eval.py", "--help"]
        done = subprocess.run(command, cwd=tmp_path / "elsewhere", capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "--test-ann-files" in done.stdout

    def test_a_moved_one_uses_its_own_template_and_snapshot(
        self, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """In this process: what the script calls, with the place that it would give."""
        from facekit.cli import run_in_work_dir

        instantiate(YUNET, tmp_path / "work", snapshot=weights)
        shutil.move(tmp_path / "work", tmp_path / "moved")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        monkeypatch.setattr(sys, "argv", ["visualize.py", "--images", str(tmp_path / "moved" / "template.yaml")])
        with pytest.raises(SystemExit) as caught:
            run_in_work_dir("visualize", tmp_path / "moved")
        assert caught.value.code == 1
        # So far it comes only with template and weights found.
        assert "template.yaml: not a picture" in capsys.readouterr().err


class TestAgain:
    """F2: what somebody has edited is kept, said, and replaced only when forced."""

    def test_an_edited_template_and_script_are_kept(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", logger="facekit")
        instantiate(YUNET, tmp_path, no_snapshot=True)
        template, script = tmp_path / "template.yaml", tmp_path / "train.py"
        edited = template.read_text().replace("epochs: 640", "epochs: 12")
        template.write_text(edited)
        script.write_text("print('mine')\n")
        (tmp_path / "eval.py").unlink()
        instantiate(YUNET, tmp_path, no_snapshot=True)
        assert (template.read_text(), script.read_text()) == (edited, "print('mine')\n")
        assert (tmp_path / "eval.py").is_file()
        kept = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Kept: ")]
        assert [str(path) in text for path, text in zip((template, script), kept, strict=True)] == [True, True]
        instantiate(YUNET, tmp_path, no_snapshot=True, force=True)
        assert template.read_bytes() == YUNET.read_bytes()
        assert "run_in_work_dir" in script.read_text()

    def test_a_snapshot_is_kept(self, tmp_path: Path, weights: Path) -> None:
        instantiate(YUNET, tmp_path, no_snapshot=True)
        (tmp_path / "snapshot.pth").write_bytes(b"mine")
        assert instantiate(YUNET, tmp_path, snapshot=weights) == tmp_path / "snapshot.pth"
        assert (tmp_path / "snapshot.pth").read_bytes() == b"mine"
        instantiate(YUNET, tmp_path, snapshot=weights, force=True)
        assert load_weights(tmp_path / "snapshot.pth", load_template(YUNET)).epoch == 7


class TestBundled:
    """F15: without a network, yunet-n has weights all the same."""

    def test_is_offered_and_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreachable(_: object) -> Path:
            raise NoSnapshotError("no network")

        monkeypatch.setattr("facekit.weights.snapshots.fetch_snapshot", unreachable)
        with pytest.raises(NoSnapshotError, match=r"no network\n.*`snapshot=bundled`"):
            instantiate(YUNET, tmp_path / "work")
        instantiate(YUNET, tmp_path / "work", snapshot="bundled")
        assert load_weights(tmp_path / "work" / "snapshot.pth", load_template(YUNET)).meta["template"] == "yunet-n"
        with pytest.raises(FacekitError, match="is a yunet-n, not a face-detection-0200"):
            instantiate(SSD, tmp_path / "other", snapshot="bundled")
