from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from facekit.engine.training.checkpoints import LOCK, holding
from facekit.engine.training.options import TrainOptions
from facekit.engine.training.train import train
from facekit.errors import FacekitError
from facekit.template import find_template, load_template
from tests.engine.training.support import ellipse_pictures

HOLD = (
    "import fcntl, os, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
    "print(os.getpid(), file=file, flush=True); print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process's run in the folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_one_run_a_folder(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    best = tmp_path / "best.pth"
    best.write_bytes(b"of the other run")
    pictures = ellipse_pictures(tmp_path, 4)
    options = TrainOptions("yunet-n", save_checkpoints_to=tmp_path, epochs=1, workers=0)
    with pytest.raises(FacekitError, match=rf"another run \(process {other.pid}\) writes there.*save_checkpoints_to"):
        train(load_template(find_template("yunet-n")), pictures, [], options)
    assert best.read_bytes() == b"of the other run"
    other.kill()
    other.wait()
    with holding(tmp_path):  # of a run that was killed nothing is in the way
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / LOCK).exists()


def test_one_run_a_folder_in_one_process(tmp_path: Path) -> None:
    """Which the system's lock would let in, and which would take the lock away from the first."""
    folder, link = tmp_path / "run", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    with holding(folder):
        for place in (folder, link):
            with pytest.raises(FacekitError, match=rf"{place}: another run \(process {os.getpid()}\)"), holding(place):
                pass
        assert (folder / LOCK).exists()
    with holding(link):
        pass
