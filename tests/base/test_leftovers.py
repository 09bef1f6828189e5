"""Several threads, containers and machines write to one folder at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from facekit.base import files
from facekit.base.files import check_writable_folder, remove_leftovers, replacing, replacing_set


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_another_container_writes_stays_for_a_day(
    tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process's number is none here."""
    with monkeypatch.context() as there:
        there.setattr(files, "_here", lambda: "abcdef")
        there.setattr(os, "getpid", lambda: dead)
        file, together = replacing(tmp_path / "a.pth"), replacing_set(tmp_path)
        begun = file.__enter__(), together.__enter__()
    begun[0].touch()
    (begun[1] / "b.bin").touch()
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(begun)

    for path in begun:
        os.utime(path, times=(time.time() - 2 * files.OTHERS_PART_S,) * 2)
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [begun[1]]  # a file in it is new


def test_ones_own_goes_at_once(tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(os, "getpid", lambda: dead)
        left = files.beside_name(tmp_path / "a.pth")
    left.touch()
    with replacing(tmp_path / "b.pth") as beside:
        beside.touch()
    assert [path.name for path in tmp_path.iterdir()] == ["b.pth"]


def test_threads_that_write_one_file(tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=30)

    def write(text: str) -> None:
        with replacing(tmp_path / "a.txt") as beside:
            beside.write_text(text)
            both.wait()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, "12"))
    assert (tmp_path / "a.txt").read_text() in ("1", "2") and len(list(tmp_path.iterdir())) == 1


def test_threads_that_try_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=30)
    touch = Path.touch

    def touch_together(path: Path, *how: Any) -> None:
        touch(path, *how)
        both.wait()

    monkeypatch.setattr(Path, "touch", touch_together)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(check_writable_folder, [tmp_path] * 2))
    assert not list(tmp_path.iterdir())
