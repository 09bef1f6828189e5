from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from facekit.base import download as module
from facekit.base.download import DownloadError, Identity, digests, download, fetch, partial_path
from facekit.errors import FacekitError

if TYPE_CHECKING:
    from tests.conftest import Server

DATA = bytes(range(256)) * 1000  # several chunks
SHA256, MD5 = hashlib.sha256(DATA).hexdigest(), hashlib.md5(DATA).hexdigest()
WHOLE = Identity(len(DATA), SHA256)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "a.zip"


def begun(path: Path, data: bytes) -> None:
    path.parent.mkdir()
    partial_path(path).write_bytes(data)


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.rglob("*"))


class TestIdentity:
    def test_digests_of_the_definition(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"abc")  # RFC 1321, A.5; FIPS 180-2, B.1
        assert digests(tmp_path / "a", ("md5", "sha256")) == {
            "md5": "900150983cd24fb0d6963f7d28e17f72",
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        }

    @pytest.mark.parametrize(
        "identity", [WHOLE, Identity(None), Identity(None, SHA256), Identity(len(DATA), None, MD5), Identity(len(DATA))]
    )
    def test_same(self, tmp_path: Path, identity: Identity) -> None:
        (tmp_path / "a").write_bytes(DATA)
        assert identity.mismatch(tmp_path / "a") is None

    @pytest.mark.parametrize(
        ("identity", "said"),
        [
            (Identity(3), "expected 3 bytes"),
            (Identity(len(DATA), "0" * 64), "sha256"),
            (Identity(None, None, "0" * 32), "md5"),
            (Identity(None, SHA256, "0" * 32), "md5"),
        ],
    )
    def test_another(self, tmp_path: Path, identity: Identity, said: str) -> None:
        (tmp_path / "a").write_bytes(DATA)
        assert said in str(identity.mismatch(tmp_path / "a"))


class TestDownload:
    @pytest.mark.parametrize("identity", [WHOLE, Identity(None, None, MD5), Identity(None)])
    @pytest.mark.parametrize("says_length", [True, False])
    def test_whole(self, server: Server, path: Path, identity: Identity, says_length: bool) -> None:
        server.files["a.zip"] = DATA
        server.says_length = says_length
        download([server.url("a.zip")], identity, path)
        assert path.read_bytes() == DATA
        assert names(path) == ["a.zip"]
        assert server.requests == [("a.zip", None)]

    def test_resumes(self, server: Server, path: Path) -> None:
        server.files["a.zip"] = DATA
        begun(path, DATA[:100_000])
        download([server.url("a.zip")], WHOLE, path)
        assert path.read_bytes() == DATA
        assert server.requests == [("a.zip", "bytes=100000-")]

    def test_what_has_no_known_size_starts_anew(self, server: Server, path: Path) -> None:
        server.files["a.zip"] = DATA
        begun(path, b"of something else")
        download([server.url("a.zip")], Identity(None), path)
        assert path.read_bytes() == DATA

    @pytest.mark.parametrize("identity", [WHOLE, Identity(None)])
    def test_cut_off(self, server: Server, path: Path, identity: Identity) -> None:
        server.files["a.zip"] = DATA
        server.cut_after = 70_000
        with pytest.raises(DownloadError, match=r"got 70000 bytes, expected 256000 bytes: cut off"):
            download([server.url("a.zip")], identity, path)
        assert names(path) == ["a.zip.partial"]
        server.cut_after = None
        download([server.url("a.zip")], identity, path)
        assert path.read_bytes() == DATA
        assert server.requests[1] == ("a.zip", "bytes=70000-" if identity.size else None)

    def test_cut_off_by_a_server_that_says_no_length(self, server: Server, path: Path) -> None:
        server.files["a.zip"] = DATA
        server.cut_after, server.says_length = 70_000, False
        with pytest.raises(DownloadError, match=r"expected 256000 bytes: cut off"):
            download([server.url("a.zip")], WHOLE, path)
        server.cut_after = None
        download([server.url("a.zip")], WHOLE, path)
        assert server.requests[1] == ("a.zip", "bytes=70000-")

    def test_second_mirror_goes_on_where_the_first_broke_off(self, server: Server, path: Path) -> None:
        server.files["b/a.zip"] = DATA
        begun(path, DATA[:100_000])
        download(["http://127.0.0.1:9/a.zip", server.url("a.zip"), server.url("b/a.zip")], WHOLE, path)
        assert path.read_bytes() == DATA
        assert server.requests == [("a.zip", "bytes=100000-"), ("b/a.zip", "bytes=100000-")]

    def test_reasons_of_all_mirrors(self, server: Server, path: Path) -> None:
        server.files |= {"page": b"<html>", "other": bytes(len(DATA))}
        urls = ["http://127.0.0.1:9/a", server.url("gone"), server.url("page"), server.url("other")]
        with pytest.raises(DownloadError) as caught:
            download(urls, WHOLE, path)
        lines = str(caught.value).splitlines()
        assert [line.split(": ")[0].strip() for line in lines] == urls
        for line, reason in zip(lines, ("refused", "Not Found", "offers 6 bytes", "sha256"), strict=True):
            assert reason in line
        assert names(path) == []

    def test_server_that_ignores_range(self, server: Server, path: Path) -> None:
        server.files["a.zip"] = DATA
        server.resumes = False
        begun(path, b"x" * 100_000)
        download([server.url("a.zip")], WHOLE, path)
        assert path.read_bytes() == DATA

    def test_server_that_sends_another_range(self, server: Server, path: Path) -> None:
        server.files["a.zip"] = DATA
        server.range_shift = 1
        begun(path, DATA[:100_000])
        with pytest.raises(DownloadError, match="from 100000 on"):
            download([server.url("a.zip")], WHOLE, path)
        download([server.url("a.zip")], WHOLE, path)
        assert path.read_bytes() == DATA

    def test_complete_partial_needs_no_request(self, server: Server, path: Path) -> None:
        begun(path, DATA)
        download([server.url("a.zip")], WHOLE, path)
        assert path.read_bytes() == DATA
        assert not server.requests

    def test_partial_longer_than_the_file(self, server: Server, path: Path) -> None:
        server.files["a.zip"] = DATA
        begun(path, DATA + b"more")
        download([server.url("a.zip")], WHOLE, path)
        assert path.read_bytes() == DATA

    @pytest.mark.parametrize("says_length", [True, False])
    @pytest.mark.parametrize("served", [DATA[:-1] + b"!", DATA + b"more", b"<html>please log in</html>", b""])
    def test_other_content_is_refused(self, server: Server, path: Path, served: bytes, says_length: bool) -> None:
        server.files["a.zip"] = served
        server.says_length = says_length
        with pytest.raises(DownloadError, match=f"{server.url('a.zip')}: .*expected {len(DATA)} bytes"):
            download([server.url("a.zip")], WHOLE, path)
        assert not path.exists()
        server.files["a.zip"] = DATA
        partial_path(path).unlink(missing_ok=True)
        download([server.url("a.zip")], WHOLE, path)
        assert path.read_bytes() == DATA

    def test_page_that_asks_to_log_in(self, server: Server, path: Path) -> None:
        server.files["a.zip"] = b"<html>please log in</html>"
        server.says_length = False
        server.content_type = "text/html; charset=utf-8"
        begun(path, DATA[:100_000])
        with pytest.raises(DownloadError, match="a web page"):
            download([server.url("a.zip")], WHOLE, path)
        assert partial_path(path).read_bytes() == DATA[:100_000]

    def test_spoilt_partial_is_given_up(self, server: Server, path: Path) -> None:
        server.files["a.zip"] = DATA
        begun(path, b"x" * 100_000)
        with pytest.raises(DownloadError, match="sha256"):
            download([server.url("a.zip")], WHOLE, path)
        assert names(path) == []
        download([server.url("a.zip")], WHOLE, path)
        assert path.read_bytes() == DATA

    def test_never_more_than_the_published_size(self, server: Server, path: Path) -> None:
        server.files["a.zip"] = DATA * 4
        server.says_length = False
        with pytest.raises(DownloadError) as caught:
            download([server.url("a.zip")], WHOLE, path)
        received = int(str(caught.value).split("got ")[1].split()[0])
        assert len(DATA) < received <= len(DATA) + module.CHUNK_BYTES

    def test_endless_file_of_unknown_size(self, server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_UNKNOWN_BYTES", 100_000)
        server.files["a.zip"] = DATA
        server.says_length = False
        with pytest.raises(DownloadError, match="more than 100000 bytes"):
            download([server.url("a.zip")], Identity(None), path)
        assert names(path) == []

    def test_disk_that_refuses_is_no_fault_of_the_mirrors(self, server: Server, tmp_path: Path) -> None:
        server.files["a.zip"] = DATA
        (tmp_path / "file").touch()
        with pytest.raises(FacekitError, match="can't be written") as caught:
            download([server.url("a.zip"), server.url("b.zip")], WHOLE, tmp_path / "file" / "a.zip")
        assert not isinstance(caught.value, DownloadError)
        assert [name for name, _ in server.requests] == ["a.zip"]

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_full_disk(self, server: Server, path: Path) -> None:
        server.files["a.zip"] = DATA
        path.parent.mkdir()
        partial_path(path).symlink_to("/dev/full")
        with pytest.raises(FacekitError, match="Make room"):
            download([server.url("a.zip")], WHOLE, path)
        shutil.rmtree(path.parent)


class Hostile:
    """A server that says what it is told to, piece by piece, for as long as it is listened to."""

    def __init__(self, pieces: Callable[[], Iterator[bytes]], pause_s: float = 0.0) -> None:
        self.pieces, self.pause_s, self.sent = pieces, pause_s, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/a.zip"
        self.is_over = threading.Event()

    def __enter__(self) -> Hostile:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self.listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while not self.is_over.is_set():
                connection, _ = self.listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    for piece in self.pieces():
                        if self.is_over.wait(self.pause_s):
                            break
                        connection.sendall(piece)
                        self.sent += len(piece)


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/zip\r\n"


class TestHostileServers:
    @pytest.fixture(autouse=True)
    def hurried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        for name, value in (("TIMEOUT_S", 0.5), ("ANSWER_S", 0.6), ("WINDOW_S", 0.4)):
            monkeypatch.setattr(module, name, value)

    def reason(
        self, pieces: Callable[[], Iterator[bytes]], path: Path, pause_s: float = 0.0, size: int | None = None
    ) -> str:
        """What is said of the server, a mirror behind which is asked next and has the file."""
        with Hostile(pieces, pause_s) as server:
            start = time.monotonic()
            with pytest.raises(DownloadError) as caught:
                download([server.url, "http://127.0.0.1:9/a.zip"], Identity(size), path)
            assert time.monotonic() - start < 5
            assert server.sent < 64 << 20
            first, second = str(caught.value).splitlines()
            assert first.startswith(f"  {server.url}: ") and len(first) < 400
            assert "127.0.0.1:9" in second
        assert names(path) in ([], ["a.zip.partial"])
        return first

    def test_headers_that_trickle(self, path: Path) -> None:
        path.parent.mkdir()
        assert "no answer within" in self.reason(lambda: (bytes([byte]) for byte in OK * 100), path, 0.05)

    def test_headers_without_end(self, path: Path) -> None:
        path.parent.mkdir()
        self.reason(lambda: iter([OK, *[b"X-More: 1\r\n"] * 10_000]), path)

    def test_silence(self, path: Path) -> None:
        path.parent.mkdir()
        assert "no answer" in (text := self.reason(lambda: iter([b"", b""]), path, 3.0)) or "timed out" in text

    def test_silence_in_the_middle(self, path: Path) -> None:
        path.parent.mkdir()

        def pieces() -> Iterator[bytes]:
            yield OK + b"Content-Length: 1000\r\n\r\n" + b"x" * 100
            time.sleep(2)

        assert "nothing more for" in (text := self.reason(pieces, path)) or "timed out" in text

    @pytest.mark.parametrize(
        "head", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
    )
    def test_body_that_trickles(self, path: Path, head: bytes) -> None:
        path.parent.mkdir()
        trickle = [b"0"] * 1000
        text = self.reason(lambda: iter([OK + head, *trickle]), path, 0.05)
        assert "under 1024 bytes a second" in text or "nothing more for" in text

    @pytest.mark.parametrize("digits", [b"9" * 5000, b"9" * 18, b"1125899906842624"])
    def test_length_that_cannot_be(self, path: Path, digits: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_UNKNOWN_BYTES", 1 << 20)
        path.parent.mkdir()
        head = OK + b"Content-Length: " + digits + b"\r\n\r\n"
        text = self.reason(lambda: itertools.chain([head], itertools.repeat(b"x" * 65536)), path)
        assert "expected at most 1048576 bytes" in text or "more than 1048576 bytes" in text

    def test_petabyte_for_a_known_file(self, path: Path) -> None:
        path.parent.mkdir()
        head = OK + b"Content-Length: 1125899906842624\r\n\r\n"
        text = self.reason(lambda: itertools.chain([head], itertools.repeat(b"x" * 65536)), path, size=1000)
        assert "offers 1125899906842624 bytes, expected 1000 bytes" in text

    @pytest.mark.parametrize(
        "target", [b"http://[", b"http://", b"file:///etc/passwd", b"http://b\xfccher/", b"http://" + b"x" * 300 + b"/",
                   b"http://127.0.0.1:99999/", b"gopher://a/", b"/a.zip"]
    )  # fmt: skip
    def test_redirection_to_nowhere(self, path: Path, target: bytes) -> None:
        path.parent.mkdir()
        answer = b"HTTP/1.1 302 Found\r\nLocation: " + target + b"\r\nContent-Length: 0\r\n\r\n"
        self.reason(lambda: iter([answer]), path)

    @pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\xff" * 100, b""])
    def test_no_answer_at_all(self, path: Path, answer: bytes) -> None:
        path.parent.mkdir()
        self.reason(lambda: iter([answer]), path)

    @pytest.mark.parametrize(
        "url", ["http://[", "http://a b/", "http://" + "x" * 5000, "nonsense", "http://a:b/", "http://ü\ud800/"]
    )
    def test_addresses_that_are_none(self, path: Path, url: str) -> None:
        with pytest.raises(DownloadError) as caught:
            download([url], WHOLE, path)
        assert len(str(caught.value)) < 800 and len(str(caught.value).splitlines()) == 1

    def test_a_password_is_not_shown(self, path: Path) -> None:
        with pytest.raises(DownloadError) as caught:
            download(["http://me:s3cret@127.0.0.1:9/a.zip"], WHOLE, path)
        assert "s3cret" not in str(caught.value)


class TestFetch:
    @pytest.fixture(autouse=True)
    def _picture(self, server: Server) -> None:
        server.files["a.jpg"], server.content_type = b"pixels", "image/jpeg"

    def test_whole(self, server: Server) -> None:
        assert fetch(server.url("a.jpg"), 6) == (b"pixels", "image/jpeg")
        assert server.authorizations == [None]

    def test_more_than_is_taken(self, server: Server) -> None:
        with pytest.raises(FacekitError, match="offers 6 bytes, over 5"):
            fetch(server.url("a.jpg"), 5)

    def test_user_and_password_of_the_address(self, server: Server) -> None:
        fetch(server.url("a.jpg").replace("//", "//me:p%40ss@"), 6)
        assert server.authorizations == ["Basic " + base64.b64encode(b"me:p@ss").decode()]

    def test_a_redirection_gets_no_password(self, server: Server) -> None:
        server.moved["old.jpg"] = server.url("a.jpg")
        assert fetch(server.url("old.jpg").replace("//", "//me:secret@"), 6)[0] == b"pixels"
        assert server.authorizations[1:] == [None]

    def test_a_password_is_not_shown(self, server: Server) -> None:
        with pytest.raises(FacekitError) as caught:
            fetch(server.url("none.jpg").replace("//", "//me:secret@"), 6)
        assert "404" in str(caught.value) and "secret" not in str(caught.value)
