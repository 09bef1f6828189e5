from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from facekit.template import TEMPLATES_DIR, RemoteFile, SnapshotSource, Template, load_template
from facekit.weights import snapshots
from facekit.weights.snapshots import NoSnapshotError, cache_dir, cache_path, fetch_snapshot

if TYPE_CHECKING:
    from tests.conftest import Server

DATA = bytes(range(256)) * 1000  # several chunks
SECOND = b"second" * 1000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("FACEKIT_CACHE", str(folder))
    return folder


def remote(url: str, data: bytes) -> RemoteFile:
    file = RemoteFile("https://x/" + url.rpartition("/")[2], len(data), hashlib.sha256(data).hexdigest())
    object.__setattr__(file, "url", url)  # templates allow https only; the test's server speaks http
    return file


def template_of(*sources: SnapshotSource) -> Template:
    return dataclasses.replace(load_template(TEMPLATES_DIR / "yunet-n" / "template.yaml"), snapshot=sources)


def torch_source(*files: RemoteFile) -> SnapshotSource:
    return SnapshotSource("torch", files, "MIT")


def keep(file: RemoteFile, data: bytes, suffix: str = "") -> Path:
    path = cache_path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.with_name(path.name + suffix)
    path.write_bytes(data)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


class TestCacheDir:
    def test_from_the_environment(self, cache: Path) -> None:
        assert cache_dir() == cache

    @pytest.mark.parametrize("value", [None, ""])
    def test_default(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("FACEKIT_CACHE")
        if value is not None:
            monkeypatch.setenv("FACEKIT_CACHE", value)
        assert cache_dir() == tmp_path / ".cache" / "facekit"

    def test_keyed_by_digest(self, cache: Path) -> None:
        file = remote("http://127.0.0.1/some/a.pth?x=1", DATA)
        assert cache_path(file) == cache / hashlib.sha256(DATA).hexdigest() / "a.pth"


class TestFetch:
    def test_cache_is_found_without_a_request(self, server: Server, caplog: pytest.LogCaptureFixture) -> None:
        file = remote(server.url("a.pth"), DATA)
        kept = keep(file, DATA)
        with caplog.at_level(logging.INFO, "facekit"):
            assert fetch_snapshot(template_of(torch_source(file))) == kept
        assert not server.requests
        assert "found in the cache" in caplog.text

    def test_second_source_in_the_cache_comes_before_the_first_on_the_network(self, server: Server) -> None:
        server.files["a.pth"] = DATA
        first, second = remote(server.url("a.pth"), DATA), remote(server.url("b.pth"), SECOND)
        kept = keep(second, SECOND)
        assert fetch_snapshot(template_of(torch_source(first), torch_source(second))) == kept
        assert not server.requests

    def test_cut_off_then_resumed(self, server: Server, cache: Path) -> None:
        server.files["a.pth"] = DATA
        server.cut_after = 70_000
        template = template_of(torch_source(remote(server.url("a.pth"), DATA)))
        with pytest.raises(NoSnapshotError):
            fetch_snapshot(template)
        server.cut_after = None
        assert fetch_snapshot(template).read_bytes() == DATA
        assert server.requests == [("a.pth", None), ("a.pth", "bytes=70000-")]
        assert names(cache) == ["a.pth"]

    @pytest.mark.parametrize("damaged", [b"x" * len(DATA), DATA[:-1], b""])
    def test_damaged_entry_is_fetched_again(
        self, server: Server, caplog: pytest.LogCaptureFixture, damaged: bytes
    ) -> None:
        server.files["a.pth"] = DATA
        file = remote(server.url("a.pth"), DATA)
        keep(file, damaged)
        with caplog.at_level(logging.WARNING, "facekit"):
            assert fetch_snapshot(template_of(torch_source(file))).read_bytes() == DATA
        assert len(server.requests) == 1
        if len(damaged) == len(DATA):
            assert f"{cache_path(file)} is damaged" in caplog.text

    def test_falls_back_to_the_second_source(self, server: Server) -> None:
        server.files["b.pth"] = SECOND
        first, second = remote(server.url("a.pth"), DATA), remote(server.url("b.pth"), SECOND)
        path = fetch_snapshot(template_of(torch_source(first), torch_source(second)))
        assert path.read_bytes() == SECOND
        assert [name for name, _ in server.requests] == ["a.pth", "b.pth"]

    def test_falls_back_when_the_first_is_not_the_published_file(self, server: Server) -> None:
        server.files |= {"a.pth": b"other", "b.pth": SECOND}
        first, second = remote(server.url("a.pth"), DATA), remote(server.url("b.pth"), SECOND)
        assert fetch_snapshot(template_of(torch_source(first), torch_source(second))).read_bytes() == SECOND

    def test_ir_lies_side_by_side(self, server: Server) -> None:
        server.files |= {"a.xml": DATA, "a.bin": SECOND}
        files = (remote(server.url("a.xml"), DATA), remote(server.url("a.bin"), SECOND))
        template = template_of(SnapshotSource("openvino_ir", files, "MIT"))
        path = fetch_snapshot(template)
        assert (path.name, path.read_bytes()) == ("a.xml", DATA)
        assert path.with_suffix(".bin").read_bytes() == SECOND
        path.with_suffix(".bin").write_bytes(b"x" * len(SECOND))  # a damaged copy of a whole entry
        assert fetch_snapshot(template).with_suffix(".bin").read_bytes() == SECOND
        assert len(server.requests) == 2

    def test_nothing_reachable(self, server: Server, cache: Path) -> None:
        gone, refused = remote(server.url("a.pth"), DATA), remote("http://127.0.0.1:9/b.pth", SECOND)
        with pytest.raises(NoSnapshotError) as caught:
            fetch_snapshot(template_of(torch_source(gone), torch_source(refused)))
        text = str(caught.value)
        assert "snapshot of yunet-n could not be fetched" in text
        assert f"{gone.url}: " in text and "Not Found" in text
        assert f"{refused.url}: " in text and "refused" in text.lower()
        for remedy in ("run the same command again", "`snapshot=FILE`", "`no_snapshot=True`"):
            assert remedy in text
        assert names(cache) == []

    def test_cache_that_cannot_be_written(
        self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.files["a.pth"] = DATA
        (tmp_path / "file").touch()
        monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "file" / "cache"))
        with pytest.raises(NoSnapshotError) as caught:
            fetch_snapshot(template_of(torch_source(remote(server.url("a.pth"), DATA))))
        assert "Not a directory" in str(caught.value)
        assert "FACEKIT_CACHE" in str(caught.value)

    def test_connection_that_breaks_names_the_remedies(self, server: Server) -> None:
        server.files["a.pth"] = DATA
        server.cut_after = 10
        with pytest.raises(NoSnapshotError, match="goes on where it stopped"):
            fetch_snapshot(template_of(torch_source(remote(server.url("a.pth"), DATA))))


class TestWithoutHome:
    """P17: services and containers have no home, or no name."""

    @pytest.fixture(autouse=True)
    def no_home(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
        def home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        for name in ("FACEKIT_CACHE", "XDG_CACHE_HOME", "HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(Path, "home", home)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        snapshots._temporary_cache.cache_clear()
        yield
        snapshots._temporary_cache.cache_clear()

    def test_xdg(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert snapshots.cache_dir() == tmp_path / "xdg" / "facekit"

    def test_the_temporary_folder_is_said(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", logger="facekit")
        folder = snapshots.cache_dir()
        assert folder == tmp_path / f"facekit-{os.getuid()}"
        assert folder.stat().st_mode & 0o077 == 0
        assert "FACEKIT_CACHE" in caplog.text
        assert snapshots.cache_dir() == folder and caplog.text.count("FACEKIT_CACHE") == 1

    def test_another_users_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "theirs").mkdir()
        (tmp_path / f"facekit-{os.getuid()}").symlink_to(tmp_path / "theirs")
        assert snapshots.cache_dir().parent == tmp_path
        assert not snapshots.cache_dir().is_symlink()
