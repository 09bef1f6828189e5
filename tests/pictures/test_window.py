from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from facekit.pictures.window import has_display


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


class TestHasDisplay:
    def test_none(self, no_display: None) -> None:
        assert not has_display()

    @pytest.mark.parametrize("display", ["", ":4711", ":4711.0", "127.0.0.1:4711.0"])
    def test_unset_or_stale(self, no_display: None, monkeypatch: pytest.MonkeyPatch, display: str) -> None:
        monkeypatch.setenv("DISPLAY", display)
        assert not has_display()

    @pytest.fixture
    def socket_path(self) -> Iterator[Path]:
        folder = Path("/tmp/.X11-unix")
        folder.mkdir(exist_ok=True)
        path = folder / f"X{40_000 + os.getpid() % 20_000}"
        yield path
        path.unlink(missing_ok=True)

    def test_server_that_listens(self, no_display: None, monkeypatch: pytest.MonkeyPatch, socket_path: Path) -> None:
        monkeypatch.setenv("DISPLAY", f":{socket_path.name[1:]}.0")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(socket_path))
            server.listen()
            assert has_display()

    def test_socket_of_a_server_that_died(
        self, no_display: None, monkeypatch: pytest.MonkeyPatch, socket_path: Path
    ) -> None:
        monkeypatch.setenv("DISPLAY", f":{socket_path.name[1:]}")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(socket_path))
        assert socket_path.exists()
        assert not has_display()

    def test_wayland(self, no_display: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
        assert has_display()
