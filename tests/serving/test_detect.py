"""What well-behaved clients get."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from facekit.detector import Detector
from facekit.errors import FacekitError
from facekit.pictures.read import read_picture
from facekit.serving.settings import Settings
from tests.serving.conftest import Running


@pytest.fixture(scope="module")
def expected(detector: Detector, project_dir: Path) -> Any:
    return detector.detect(project_dir / "data" / "demo" / "astronaut.jpg").above(0.5)


def decoded(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)


def test_the_faces_that_python_finds(running: Running, portrait: bytes, expected: Any) -> None:
    answer = running.client.post("/detect", content=portrait)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert answer.json() == {"schema": 1, "width": 512, "height": 512, "faces": expected.to_dicts()}
    assert len(answer.json()["faces"]) == 1


@pytest.mark.parametrize("field", ["picture", "whatever"])
def test_a_form(running: Running, portrait: bytes, expected: Any, field: str) -> None:
    answer = running.client.post("/detect", files={field: ("me.jpg", portrait, "image/jpeg")})
    assert answer.json()["faces"] == expected.to_dicts()


@pytest.mark.parametrize("threshold", [0, 0.5, 0.85, 0.95, 1])
def test_the_threshold(running: Running, portrait: bytes, project_dir: Path, threshold: float) -> None:
    count = len(Detector.bundled().detect(project_dir / "data" / "demo" / "astronaut.jpg").above(threshold))
    assert count == 0 if threshold >= 0.95 else count > 0
    assert len(running.client.post(f"/detect?threshold={threshold}", content=portrait).json()["faces"]) == count


def test_a_face_of_middling_score_is_covered(running: Running, project_dir: Path) -> None:
    """As `facekit anonymize` covers it, though the rows leave it out; a request that names a threshold has it."""
    picture = cv2.blur(cv2.imread(str(project_dir / "data" / "demo" / "astronaut.jpg")), (25, 25))
    assert 0.3 < Detector.bundled().detect(np.asarray(picture, np.uint8)).scores[0] < 0.5
    _, data = cv2.imencode(".png", picture)

    def differs(query: str) -> bool:
        answer = running.client.post(f"/detect?{query}", content=data.tobytes(), headers={"Accept": "image/png"})
        return bool((decoded(answer) != picture).any())

    assert running.client.post("/detect", content=data.tobytes()).json()["faces"] == []
    assert differs("output=anonymized") and not differs("output=anonymized&threshold=0.5")
    assert not differs("output=annotated") and differs("output=annotated&threshold=0.3")
    assert Settings(threshold=0.6).least_score(is_covering=True) == 0.6


def test_a_picture_lies_as_a_viewer_shows_it(running: Running, project_dir: Path) -> None:
    """EXIF's orientation 6: the stored picture is turned by a quarter."""
    upright = cv2.imread(str(project_dir / "data" / "demo" / "astronaut.jpg"))[:, :400]
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    stored = cv2.rotate(upright, cv2.ROTATE_90_COUNTERCLOCKWISE)
    _, data = cv2.imencodeWithMetadata(
        ".jpg", stored, [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(exif, np.uint8)], [cv2.IMWRITE_JPEG_QUALITY, 95]
    )
    answer = running.client.post("/detect", content=data.tobytes()).json()
    assert (answer["width"], answer["height"]) == (400, 512)
    assert answer["faces"][0]["box_xyxy"] == pytest.approx(Detector.bundled().detect(upright)[0].box_xyxy, abs=2)


@pytest.mark.parametrize(
    ("accept", "query", "media_type"),
    [
        ("", "output=annotated", "image/jpeg"),
        ("image/png", "", "image/png"),
        ("image/webp,*/*", "output=anonymized", "image/webp"),
        ("application/json", "output=annotated", "image/jpeg"),
        ("application/json;q=0.2, image/png;q=0.9", "", "image/png"),
        ("*/*", "", "application/json"),
        ("text/html;q=x,application/json", "", "application/json"),
    ],
)
def test_what_is_answered(running: Running, portrait: bytes, accept: str, query: str, media_type: str) -> None:
    answer = running.client.post(f"/detect?{query}", content=portrait, headers={"Accept": accept})
    assert answer.headers["content-type"] == media_type
    if media_type != "application/json":
        assert decoded(answer).shape == (512, 512, 3)


@pytest.mark.parametrize(
    "query", ["output=annotated", "output=anonymized&method=blur", "method=solid&output=anonymized"]
)
def test_only_the_face_is_touched(running: Running, portrait: bytes, project_dir: Path, query: str) -> None:
    plain = read_picture(project_dir / "data" / "demo" / "astronaut.jpg").astype(int)
    answer = running.client.post(f"/detect?{query}", content=portrait, headers={"Accept": "image/png"})
    changed = np.abs(decoded(answer).astype(int) - plain).max(axis=2) > 0
    y, x = np.nonzero(changed)
    assert 150 < x.min() < x.max() < 300 and 20 < y.min() < y.max() < 210
    if "anonymized" in query:
        assert changed[70:160, 190:260].mean() > 0.95


def test_webp_is_of_the_quality_of_a_jpeg(running: Running, portrait: bytes) -> None:
    """Browsers ask for it by themselves; without loss it takes thrice the time and the room."""
    answers = [
        running.client.post("/detect", content=portrait, headers={"Accept": f"image/{kind},*/*"}).content
        for kind in ("webp", "jpeg")
    ]
    assert answers[0][12:15] == b"VP8" and len(answers[0]) < len(answers[1])


def test_what_is_hidden_under_transparency_is_not_answered(running: Running) -> None:
    hidden = np.zeros((64, 64, 4), np.uint8)
    hidden[..., 2] = 255
    data = cv2.imencode(".png", hidden)[1].tobytes()
    answer = running.client.post("/detect?output=anonymized", content=data, headers={"Accept": "image/png"})
    assert (cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED) == 255).all()


def test_nothing_of_the_files_metadata_is_answered(running: Running, project_dir: Path) -> None:
    secret = b"GPS 48.8583 2.2944"
    exif = b"II*\0\x08\0\0\0\x01\0\x0e\x01\x02\0" + len(secret).to_bytes(4, "little") + b"\x1a\0\0\0\0\0\0\0" + secret
    image = cv2.imread(str(project_dir / "data" / "demo" / "astronaut.jpg"))
    _, data = cv2.imencodeWithMetadata(".jpg", image, [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(exif, np.uint8)])
    assert secret in data.tobytes()
    answer = running.client.post("/detect?output=anonymized", content=data.tobytes())
    assert answer.status_code == 200 and secret not in answer.content


def test_many_at_a_time(running: Running, portrait: bytes, expected: Any) -> None:
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda _: running.client.post("/detect", content=portrait), range(36)))
    assert all(answer.json()["faces"] == expected.to_dicts() for answer in answers)


class Noting:
    """A detector that notes how many pictures come at once, and chokes on those of one size."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.template = detector.template
        self.batches: list[int] = []

    def protocol(self) -> str:
        return self.detector.protocol()

    def detect_batch(self, pictures: Any) -> Any:
        self.batches.append(len(pictures))
        if any(picture.shape == (7, 7, 3) for picture in pictures):
            raise MemoryError("too much")
        if any(picture.shape == (9, 9, 3) for picture in pictures):
            raise FacekitError("/secret/weights.pte: takes no such sides")
        return self.detector.detect_batch(pictures)


def test_what_waits_goes_through_together_and_one_bad_picture_harms_no_other(
    start: Callable[..., Running], detector: Detector, portrait: bytes, expected: Any
) -> None:
    noting = Noting(detector)
    running = start(noting, batch_size=4)
    bad = cv2.imencode(".png", np.zeros((7, 7, 3), np.uint8))[1].tobytes()
    with ThreadPoolExecutor(12) as clients:
        sent = [bad if index % 6 == 5 else portrait for index in range(24)]
        answers = list(clients.map(lambda data: running.client.post("/detect", content=data), sent))
    assert max(noting.batches) > 1 and max(noting.batches) <= 4
    for data, answer in zip(sent, answers, strict=True):
        if data is bad:
            assert answer.status_code == 500
            assert answer.json() == {"error": "The server failed; its log says why."}
        else:
            assert answer.json()["faces"] == expected.to_dicts()
    small = cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes()
    answer = running.client.post("/detect", content=small)
    assert answer.status_code == 422 and answer.json()["error"].startswith("9x9 pixels: this server's detector can't")
    assert running.client.get("/healthz").json()["status"] == "ok"
    head = running.client.head("/healthz")
    assert head.status_code == 200 and not head.content


def test_metrics(start: Callable[..., Running], portrait: bytes) -> None:
    client = start().client
    for _ in range(2):
        client.post("/detect", content=portrait)
    client.post("/detect", content=b"no picture")
    client.get("/made/up")
    text = client.get("/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(figures['facekit_requests_total{path="/detect",status="200"}']) == 2
    assert float(figures['facekit_requests_total{path="/detect",status="415"}']) == 1
    assert float(figures['facekit_requests_total{path="other",status="404"}']) == 1
    assert float(figures["facekit_faces_total"]) == 2
    assert float(figures["facekit_pixels_total"]) == 2 * 512 * 512
    assert float(figures["facekit_request_seconds_count"]) == 2
    assert float(figures["facekit_requests_in_work"]) == 0


def test_health_tells_of_a_detector_that_has_ended(start: Callable[..., Running]) -> None:
    running = start()
    assert running.client.get("/healthz").json()["model"] == "yunet-n"
    running.service.looker.stop()
    answer = running.client.get("/healthz")
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"


def test_the_manual_loads_nothing_and_says_what_the_description_says(running: Running) -> None:
    answer = running.client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.text and "https://" not in answer.text and "cdn" not in answer.text
    for path, operations in running.client.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            assert f"{method.upper()} {path}" in answer.text
            assert all(parameter["name"] in answer.text for parameter in operation.get("parameters", ()))
