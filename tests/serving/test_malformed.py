"""What clients that err, or mean harm, get: a refusal in one line, and a server that goes on."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest

from facekit.serving import connections, service
from facekit.serving.journal import REQUESTS
from facekit.serving.service import DECODERS, PARAMETERS
from tests.serving.conftest import Running

POST = b"POST /detect HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(autouse=True)
def goes_on(running: Running, portrait: bytes) -> Iterator[None]:
    yield
    assert len(running.client.post("/detect", content=portrait).json()["faces"]) == 1
    assert running.service.in_work == 0 and running.service.bodies.held == 0 and running.service.decoded.held == 0


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes that says it has that many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(3 * width + 1) * 50)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png(*shape: int) -> bytes:
    return bytes(cv2.imencode(".png", np.zeros(shape, np.uint8))[1])


def bmp(height: int, width: int) -> bytes:
    """Of any size, one pixel wide or high."""
    return bytes(cv2.imencode(".bmp", np.zeros((height, width), np.uint8))[1])


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 422, "The body is empty"),
        (b"hello", 415, "Not a picture of a kind that is read (JPEG, PNG"),
        (b'{"path": "/etc/passwd"}', 415, "Not a picture"),
        (b"/etc/passwd", 415, "Not a picture"),
        (b"https://example.com/a.jpg", 415, "Not a picture"),
        (b"%PDF-1.4", 415, "Not a picture"),
        (bomb(30_000, 30_000), 413, "30000x30000 pixels, over the limit of 2000000"),
        (bomb(2_000, 1_001), 413, "over the limit"),
        (bomb(500, 500), 422, ""),  # ends after 50 rows
        (b"\x89PNG\r\n\x1a\n", 422, "its header says no size"),
        (png(50, 50, 3)[:60], 422, "cut off"),
        (b"\xff\xd8\xff\xe0" + bytes(100), 422, "JPEG"),
        (b"GIF89a\0\0\0\0", 422, ""),
        (b"x" * (1 << 20) + b"x", 413, "over the limit of 1048576 bytes"),
    ],
)
def test_bodies(running: Running, body: bytes, status: int, reason: str) -> None:
    answer = running.client.post("/detect", content=body)
    assert answer.status_code == status, answer.text
    (said,) = answer.json().values()
    assert reason in said and "\n" not in said and "/work" not in said


@pytest.mark.parametrize("output", ["annotated", "anonymized"])
@pytest.mark.parametrize(
    ("accept", "shape", "remedy"),
    [
        ("image/webp", (1, 16_384, 3), "image/webp has room for 16383 a side. Ask for image/jpeg or image/png in"),
        ("image/webp", (16_384, 1, 3), "1x16384 pixels"),
        ("*/*", (1, 65_501, 3), "image/jpeg has room for 65500 a side. Ask for image/png in"),
        ("image/png", (1, 1_000_001, 3), "image/png has room for 1000000 a side. Take output=json."),
    ],
)
def test_a_picture_that_its_answer_has_no_room_for(
    running: Running, accept: str, shape: tuple[int, ...], remedy: str, output: str
) -> None:
    """One pixel a side less is answered: the limits are the encoders' own."""
    url, headers = f"/detect?output={output}", {"Accept": accept}
    body = bmp(*shape[:2])
    answer = running.client.post(url, content=body, headers=headers)
    assert answer.status_code == 422 and remedy in answer.json()["error"], answer.text
    if max(shape) < 100_000:  # longer ones take seconds
        body = bmp(*(side - 1 if side > 1 else 1 for side in shape[:2]))
        assert running.client.post(url, content=body, headers=headers).status_code == 200


def test_a_cut_off_portrait(running: Running, portrait: bytes) -> None:
    answer = running.client.post("/detect", content=portrait[: len(portrait) // 2])
    assert answer.status_code == 422 and "cut off" in answer.json()["error"]


@pytest.mark.parametrize(
    "query", ["threshold=2", "threshold=x", "threshold=nan", "output=xml", "method=", "threshold=-1"]
)
def test_parameters(running: Running, portrait: bytes, query: str) -> None:
    answer = running.client.post(f"/detect?{query}", content=portrait)
    assert answer.status_code == 422 and query.split("=")[0] in answer.json()["error"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("foo=bar", "`foo`: there is no such parameter. Known: output, threshold, method."),
        ("metod=solid&output=anonymized", "`metod`: there is no such parameter. Did you mean method? Known:"),
        ("output=json&Threshold=1", "`Threshold`: there is no such parameter. Did you mean threshold?"),
        ("a%0a%1b[2Jb=", "`a\\n\\x1b[2Jb`: there is no such parameter."),
        ("x" * 5000, f"`{'x' * 80}`: there is no such parameter."),
        ("output=anonymized&output=annotated", "`output`: stands 2 times in the query."),
        ("threshold=0.5&threshold=0.9&threshold=0.5", "`threshold`: stands 3 times in the query."),
        ("method=solid", "`method` says how faces are covered, and json covers none: add output=anonymized"),
        ("method=solid&output=annotated", "`method` says how faces are covered, and annotated covers none"),
    ],
)
def test_parameters_that_would_be_passed_over(running: Running, portrait: bytes, query: str, said: str) -> None:
    answer = running.client.post(f"/detect?{query}", content=portrait)
    assert answer.status_code == 400 and answer.json()["error"].startswith(said), answer.text


def test_the_log_quotes_neither_queries_nor_forms(
    running: Running, portrait: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger=REQUESTS)
    running.client.post("/detect?hush=1", content=portrait)
    running.client.post("/detect", files={"picture": portrait}, data={"hush": "1"})
    end = time.monotonic() + 5
    while len(caplog.messages) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert caplog.messages == ["An unknown parameter.", "A form with more than its file."]


def test_the_described_parameters_are_the_known_ones(running: Running) -> None:
    described = running.client.get("/openapi.json").json()["paths"]["/detect"]["post"]["parameters"]
    assert [each["name"] for each in described] == list(PARAMETERS)


@pytest.mark.parametrize("field", ["output", "note"])
def test_a_form_of_more_than_a_file(running: Running, portrait: bytes, field: str) -> None:
    answer = running.client.post("/detect", files={"picture": portrait}, data={field: "anonymized"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].startswith(f"`{field}`: the form holds its file alone. Parameters go into the query")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx"),
        ("multipart/form-data; boundary=" + "b" * 5000, b"--b\r\n"),
        ("multipart/form-data; boundary=b",
         b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nx\r\n' * 3 + b"--b--"),
        ("multipart/form-data; boundary=b",
         b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n' * 3000 + b"--b--"),
    ],
)  # fmt: skip
def test_forms(running: Running, content_type: str, body: bytes) -> None:
    answer = running.client.post("/detect", content=body, headers={"Content-Type": content_type})
    assert answer.status_code in (415, 422), answer.text
    assert answer.json()["error"]


def test_a_length_that_is_said_to_be_huge(running: Running) -> None:
    answer = running.raw(POST + b"Content-Length: 1073741824\r\n\r\n" + b"x" * 1000)
    assert answer.startswith(b"HTTP/1.1 413") and b"connection: close" in answer.lower()


def test_chunks_without_end(running: Running) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    started = time.monotonic()
    answer = running.raw(POST + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 40)
    # The server closes while we still send, so its answer may be lost on the way.
    assert time.monotonic() - started < 20 and (not answer or answer.startswith(b"HTTP/1.1 413"))


def test_two_lengths_end_the_connection(running: Running) -> None:
    """Behind a proxy that goes by the other one, the second request would be somebody else's."""
    twice = POST + b"Content-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HEALTH + b"\r\n"
    answer = running.raw(twice, timeout_s=5)
    assert answer.count(b"HTTP/1.1 ") == 1 and b"connection: close" in answer.lower()


def test_a_body_that_never_comes(start: Callable[..., Running]) -> None:
    other = start(timeout_s=1.0)
    started = time.monotonic()
    answer = other.raw(POST + b"Content-Length: 1000\r\n\r\n", b"x")
    assert answer.startswith(b"HTTP/1.1 408") and b"did not arrive within 1 seconds" in answer
    assert 0.9 < time.monotonic() - started < 20


@pytest.mark.parametrize(
    "request_bytes",
    [b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00", POST + b"Content-Length: x\r\n\r\n",
     POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
     POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
     b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n"],
)  # fmt: skip
def test_no_http(running: Running, request_bytes: bytes) -> None:
    answer = running.raw(request_bytes, timeout_s=3)
    assert not answer or answer.startswith(b"HTTP/1.1 4")


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"


def parted(answer: bytes) -> tuple[bytes, bytes, dict[str, str]]:
    """Status, head in small letters, and the body's JSON."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b" ", 2)[1], head.lower(), json.loads(body)


@pytest.mark.parametrize(
    "request_bytes", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\r\n\r\n", POST + b"Content-Length: x\r\n\r\n"]
)
def test_what_is_no_http_is_answered_as_errors_are(running: Running, request_bytes: bytes) -> None:
    status, head, body = parted(running.raw(request_bytes))
    assert (status, body) == (b"400", {"error": "Not a request of HTTP/1.1."})
    assert b"content-type: application/json" in head and b"connection: close" in head


@pytest.mark.parametrize(
    ("kib", "pieces", "expected"),
    [(60, 1, b"200"), (60, 6, b"200"), (68, 1, b"431"), (100, 1, b"431"), (100, 5, b"431")],
)
def test_the_bytes_of_a_head(running: Running, kib: int, pieces: int, expected: bytes) -> None:
    head = HEALTH + b"X: " + b"a" * (kib << 10) + b"\r\n\r\n"
    size = -(-len(head) // pieces)
    parts = [head[at : at + size] for at in range(0, len(head), size)]
    status, _, body = parted(running.raw(*parts, pause_s=0.05 if pieces > 1 else 0.0))
    assert status == expected and body.get("error", "") == (
        "" if expected == b"200" else "The head is over the limit of 65536 bytes."
    )


def test_too_many_connections(start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    other = start()
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", other.port)))
        time.sleep(0.2)
        status, head, body = parted(other.raw(HEALTH + b"\r\n"))
        assert status == b"503" and body == {"error": "There are over 3 connections. Try again."}
        assert b"retry-after: 1" in head and b"connection: close" in head
    time.sleep(0.2)
    assert other.raw(HEALTH + b"\r\n").startswith(b"HTTP/1.1 200")


def test_a_head_that_never_ends_and_a_silent_connection(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.8)
    other = start()
    started = time.monotonic()
    other.raw(b"GET /healthz HTTP/1.1\r\n", *[b"X: y\r\n"] * 20, pause_s=0.1, timeout_s=10)
    other.raw(b"", timeout_s=10)
    assert time.monotonic() - started < 20
    two = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    assert other.raw(two, two, pause_s=0.5).count(b"HTTP/1.1 200") == 2  # who asks again is not silent


def test_a_slash_too_many_leads_nowhere_else(running: Running, portrait: bytes) -> None:
    """A redirect to a plain address would take token and picture there."""
    answer = running.client.post("/detect/", content=portrait)
    assert answer.status_code == 404 and "location" not in answer.headers


@pytest.mark.parametrize(
    ("threshold", "range_"), [("nan", "less than or equal to 1"), ("-1", "greater than or equal to 0")]
)
def test_a_threshold_out_of_range_is_told_once(running: Running, portrait: bytes, threshold: str, range_: str) -> None:
    answer = running.client.post(f"/detect?threshold={threshold}", content=portrait)
    assert answer.json() == {"error": f"threshold: Input should be {range_}"}


class Slow:
    """A detector that takes its time."""

    def __init__(self, detector: Any, seconds: float) -> None:
        self.detector, self.seconds, self.template = detector, seconds, detector.template
        self.passes = 0

    def protocol(self) -> str:
        return "slowly"

    def detect_batch(self, pictures: Any) -> Any:
        self.passes += 1
        time.sleep(self.seconds)
        return self.detector.detect_batch(pictures)


def test_a_full_queue_says_when_to_come_back(start: Callable[..., Running], detector: Any, portrait: bytes) -> None:
    other = start(Slow(detector, 0.5), queue=3)
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: other.client.post("/detect", content=portrait), range(8)))
    by_status = [answer.status_code for answer in answers]
    assert sorted(set(by_status)) == [200, 503] and by_status.count(200) >= 3
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == "1" and "places are taken" in refused.json()["error"]
    assert other.client.post("/detect", content=portrait).status_code == 200


def test_who_would_wait_too_long_is_told(start: Callable[..., Running], detector: Any, portrait: bytes) -> None:
    other = start(Slow(detector, 0.8), timeout_s=0.3)
    answer = other.client.post("/detect", content=portrait)
    assert answer.status_code == 503 and "no answer within 0.3 seconds" in answer.json()["error"]
    end = time.monotonic() + 5
    while (other.service.decoded.held or other.service.bodies.held) and time.monotonic() < end:
        time.sleep(0.05)
    assert other.service.decoded.held == other.service.bodies.held == 0  # given back once it was done all the same


def test_who_was_told_so_keeps_a_place_while_worked_for_and_is_not_begun_with(
    start: Callable[..., Running], detector: Any, portrait: bytes
) -> None:
    slow = Slow(detector, 0.8)
    other = start(slow, queue=3, timeout_s=0.3)
    with ThreadPoolExecutor(3) as clients:
        answers = list(clients.map(lambda _: other.client.post("/detect", content=portrait), range(3)))
    assert {answer.status_code for answer in answers} == {503} and other.service.in_work == 3
    assert "places are taken" in other.client.post("/detect", content=portrait).json()["error"]
    end = time.monotonic() + 5
    while other.service.in_work and time.monotonic() < end:
        time.sleep(0.05)
    assert other.service.in_work == other.service.decoded.held == other.service.bodies.held == 0
    assert slow.passes == 1


@pytest.mark.parametrize(("step", "begun"), [("decode_picture", DECODERS), ("as_picture", 0)])
def test_who_was_told_so_is_neither_decoded_nor_encoded(
    start: Callable[..., Running],
    detector: Any,
    portrait: bytes,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    begun: int,
) -> None:
    """Four at a time, each longer than they wait in that step, or in the detector before it."""
    calls, original = [], getattr(service, step)

    def slowly(*arguments: Any, **options: Any) -> Any:
        calls.append(step)
        time.sleep(0.5)
        return original(*arguments, **options)

    monkeypatch.setattr(service, step, slowly)
    other = start(Slow(detector, 0.5), timeout_s=0.3)
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda _: other.client.post("/detect?output=annotated", content=portrait), range(4)))
    assert {answer.status_code for answer in answers} == {503}
    end = time.monotonic() + 5
    while other.service.in_work and time.monotonic() < end:
        time.sleep(0.05)
    assert other.service.in_work == other.service.decoded.held == other.service.bodies.held == 0
    assert len(calls) == begun


def test_slow_bodies_take_no_places(start: Callable[..., Running], portrait: bytes) -> None:
    other = start(queue=2, timeout_s=3.0)
    with ThreadPoolExecutor(6) as clients:
        slow = [clients.submit(other.raw, POST + b"Content-Length: 99\r\n\r\n", b"x") for _ in range(6)]
        time.sleep(0.3)
        assert other.client.post("/detect", content=portrait).status_code == 200
        assert all(answer.result().startswith(b"HTTP/1.1 408") for answer in slow)
