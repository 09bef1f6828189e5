from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from facekit.base.download import DownloadError, Identity
from facekit.errors import FacekitError
from facekit.web import runtime
from tests.conftest import Server


def identity(data: bytes) -> Identity:
    return Identity(len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def package(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A package on a server of this machine: the two files, and a third that wants to be written elsewhere."""
    contents = {"package/dist/a.mjs": b"script", "package/dist/b.wasm": b"binary", "../../evil": b"evil"}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    server.files["web.tgz"] = out.getvalue()
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime, "URL", server.url("web.tgz"))
    monkeypatch.setattr(runtime, "PACKAGE", identity(out.getvalue()))
    monkeypatch.setattr(runtime, "FILES", {"a.mjs": identity(b"script"), "b.wasm": identity(b"binary")})
    return out.getvalue()


def test_fetched_once(package: bytes, server: Server, tmp_path: Path) -> None:
    assert runtime.cached_runtime() is None
    for _ in range(2):
        found = runtime.fetch_runtime()
        assert {name: path.read_bytes() for name, path in found.items()} == {"a.mjs": b"script", "b.wasm": b"binary"}
    assert len(server.requests) == 1
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.mjs", "b.wasm"]


def test_damaged_files_are_fetched_again(package: bytes, server: Server) -> None:
    found = runtime.fetch_runtime()
    found["b.wasm"].write_bytes(b"ruined")
    assert runtime.fetch_runtime()["b.wasm"].read_bytes() == b"binary"
    assert len(server.requests) == 2


def test_another_package_is_refused(package: bytes, server: Server) -> None:
    server.files["web.tgz"] = package[:-1] + b"x"
    with pytest.raises(FacekitError, match="not the published file") as caught:
        runtime.fetch_runtime()
    assert not isinstance(caught.value, DownloadError) and runtime.cached_runtime() is None
