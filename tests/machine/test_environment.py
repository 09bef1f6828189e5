from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from facekit import __version__
from facekit.machine import environment as module
from facekit.machine.environment import describe, environment, versions


def git(folder: Path, *args: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=n@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, "-C", folder, *args], check=True, capture_output=True, text=True).stdout.strip()


class TestRevision:
    def test_of_this_checkout(self, project_dir: Path) -> None:
        if not (project_dir / ".git").exists():
            pytest.skip("needs a git work tree")
        assert environment().git_revision.removesuffix("-dirty") == git(project_dir, "rev-parse", "HEAD")

    def test_tells_changes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "checkout_dir", lambda: tmp_path)
        assert environment().git_revision == ""  # no repository, and none further up is taken
        git(tmp_path, "init", "-q")
        (tmp_path / "a").write_text("1")
        git(tmp_path, "add", "a")
        git(tmp_path, "commit", "-qm", "a")
        head = git(tmp_path, "rev-parse", "HEAD")
        assert environment().git_revision == head
        (tmp_path / "a").write_text("2")
        assert environment().git_revision == f"{head}-dirty"

    def test_of_an_install_from_git(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Installed:
            version = "1.2.3"
            text: str | None = json.dumps({"url": "x", "vcs_info": {"vcs": "git", "commit_id": "abc"}})

            def read_text(self, name: str) -> str | None:
                assert name == "direct_url.json"
                return self.text

        monkeypatch.setattr(module, "checkout_dir", lambda: None)
        monkeypatch.setattr(metadata, "distribution", lambda name: Installed())
        assert environment().git_revision == "abc"
        monkeypatch.setattr(Installed, "text", None)
        assert environment().git_revision == ""


def test_names_what_computes() -> None:
    found = environment(torch.device("cpu"))
    assert (found.facekit, found.torch, found.numpy) == (__version__, torch.__version__, np.__version__)
    assert (found.opencv, found.threads, found.device) == (cv2.__version__, torch.get_num_threads(), "cpu")
    assert f"{found.threads} threads" in describe(found)
    known = versions(found)
    assert known["onnxruntime"] == metadata.version("onnxruntime")
    assert known["torch"] == torch.__version__


def test_without_torch() -> None:
    """A detector on ONNX Runtime imports none, so its record doesn't, and names none."""
    code = """
import sys
from facekit.machine.environment import describe, environment, versions
found = environment()
assert "torch" not in sys.modules
assert (found.torch, found.torchvision, found.threads, found.processes) == ("", "", 0, 1)
assert "torch" not in versions(found) and "threads" not in describe(found), describe(found)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_differences() -> None:
    found = environment()
    later = dataclasses.replace(found, torch="9.9", cores=found.cores + 1)
    assert later.differences(found) == [
        f"torch 9.9 -> {found.torch}", f"cores {found.cores + 1} -> {found.cores}"]  # fmt: skip
