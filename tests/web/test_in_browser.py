"""The page as Chromium runs it; skipped where there is none, or no onnxruntime-web."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekit.detector import Detector
from facekit.ops.boxes import paired_iou
from tests.pages.test_in_browser import CONTRAST, DESKTOP, PHONE, TOO_WIDE

READY = """new Promise((done) => document.getElementById("camera").disabled
  ? document.addEventListener("ready", () => done(true)) : done(true))"""
NEXT = 'new Promise((done) => document.addEventListener("faces", (event) => done(event.detail), { once: true }))'


def after(action: str) -> str:
    """The faces that the page finds once it did that."""
    return f"(() => {{ const found = {NEXT}; {action}; return found; }})()"


def click(part: str) -> str:
    return f'document.getElementById("{part}").click()'


SAMPLE = after(click("sample"))


@pytest.fixture(scope="module")
def address(page_dir: Path, host: Any) -> str:
    return str(host(page_dir))


@pytest.fixture(scope="module")
def opened(camera_browser: Any, address: str) -> Any:
    camera_browser.show_address(f"{address}index.html", DESKTOP)
    assert camera_browser.run(READY)
    return camera_browser


@pytest.fixture
def page(opened: Any) -> Any:
    """The page with its controls as they were in the beginning."""
    opened.run("""(() => {
      for (const [id, value] of [["threshold", 0.5], ["longest", 640]]) document.getElementById(id).value = value;
      for (const id of ["blur", "boxes", "landmarks"]) document.getElementById(id).checked = id !== "blur";
    })()""")
    return opened


@pytest.fixture(scope="module")
def expected(project_dir: Path) -> Any:
    return Detector.bundled(threads=1).detect(project_dir / "data" / "demo" / "astronaut.jpg").above(0.5)


def check(found: dict[str, Any], expected: Any, shift_xy: tuple[float, float] = (0, 0), px: float = 0.5) -> None:
    assert len(found["faces"]) == len(expected) == 1
    (face,) = found["faces"]
    box = np.array(face["box"]) - np.tile(shift_xy, 2)
    assert paired_iou(box, expected.boxes_xyxy[0]) > 0.95
    assert abs(face["score"] - expected.scores[0]) < 0.01
    points = np.array(face["points"]).reshape(5, 2) - shift_xy
    assert np.abs(points - expected.landmarks_xy[0]).max() < px


def test_the_faces_that_python_finds(page: Any, expected: Any, record_property: Any, page_dir: Path) -> None:
    found = page.run(SAMPLE)
    check(found, expected)
    size = sum(path.stat().st_size for path in page_dir.iterdir()) / 1e6
    difference = np.abs(np.array(found["faces"][0]["box"]) - expected.boxes_xyxy[0]).max()
    record_property("figure", f"the page: {size:.2f} MB; boxes differ from Python's by {difference:.2g} px")
    assert size < 20


def test_nothing_is_asked_of_any_other_host(page: Any, address: str) -> None:
    page.run(SAMPLE)
    assert page.requests() and all(url.startswith((address, "blob:")) for url in page.requests())
    assert page.complaints() == []
    refused = page.run("""fetch("http://127.0.0.1:1/").then(() => "done", (error) => String(error))""")
    assert "Failed to fetch" in refused
    assert any("Content Security Policy" in text for text in page.complaints())


def test_threads_where_the_page_is_isolated(page: Any) -> None:
    assert page.run("crossOriginIsolated") is True
    threads = int(page.run('document.getElementById("threads").textContent'))
    assert threads == min(4, page.run("navigator.hardwareConcurrency"))


def test_the_camera(page: Any, expected: Any) -> None:
    found = page.run(after(click("camera")))
    for _ in range(3):
        found = page.run(NEXT)
    assert (found["width"], found["height"]) == (640, 480)
    check(found, expected, (64, 0), px=2)  # the camera's film is a JPEG of the portrait, in other colours
    assert float(page.run('document.getElementById("fps").textContent')) > 0
    page.run(click("camera"))
    assert page.run('document.getElementById("camera").getAttribute("aria-pressed")') == "false"
    check(page.run(SAMPLE), expected)  # a picture after the camera


def test_a_picture_that_is_dropped(page: Any, expected: Any) -> None:
    script = """(async () => {
      const blob = await (await fetch("sample.jpg")).blob(), moved = new DataTransfer();
      moved.items.add(new File([blob], "me.jpg", { type: "image/jpeg" }));
      document.getElementById("view").dispatchEvent(
        new DragEvent("drop", { dataTransfer: moved, bubbles: true, cancelable: true }));
    })()"""
    check(page.run(after(script)), expected)


def test_what_is_no_picture(page: Any) -> None:
    page.run("""(() => {
      const moved = new DataTransfer();
      moved.items.add(new File(["hello"], "me.jpg", { type: "image/jpeg" }));
      document.dispatchEvent(new DragEvent("drop", { dataTransfer: moved, cancelable: true }));
    })()""")
    said = page.run("""new Promise((done) => {
      const look = () => { const text = document.getElementById("status").textContent;
        text.includes("no picture") ? done(text) : setTimeout(look, 20); };
      look();
    })""")
    assert said == "This is no picture that the browser can read."


def test_the_threshold(page: Any) -> None:
    page.run(SAMPLE)
    move = 'const t = document.getElementById("threshold"); t.value = 0.95; t.dispatchEvent(new Event("input"))'
    assert page.run(after(move))["faces"] == []
    assert page.run('document.getElementById("status").textContent') == "0 faces found."


def test_a_smaller_look(page: Any, expected: Any) -> None:
    page.run(SAMPLE)
    choose = 'const s = document.getElementById("longest"); s.value = 320; s.dispatchEvent(new Event("change"))'
    (face,) = page.run(after(choose))["faces"]
    assert paired_iou(np.array(face["box"]), expected.boxes_xyxy[0]) > 0.8
    assert face["score"] != pytest.approx(float(expected.scores[0]), abs=1e-6)  # it was another look


def test_what_is_left_of_a_blurred_face(page: Any, expected: Any, project_dir: Path) -> None:
    page.run(SAMPLE)
    page.run("; ".join(map(click, ("blur", "boxes", "landmarks"))))
    shown = page.run('document.getElementById("view").toDataURL("image/png")').partition(",")[2]
    blurred = cv2.imdecode(np.frombuffer(base64.b64decode(shown), np.uint8), cv2.IMREAD_COLOR)
    plain = cv2.imread(str(project_dir / "data" / "demo" / "astronaut.jpg"))
    x1, y1, x2, y2 = expected.boxes_xyxy[0].astype(int)
    inner = np.s_[y1 + 10 : y2 - 10, x1 + 10 : x2 - 10]
    detail = [cv2.Laplacian(image[inner], cv2.CV_64F).var() for image in (plain, blurred)]
    assert detail[1] < 0.02 * detail[0]
    away = np.ones(plain.shape[:2], bool)
    away[y1 - 30 : y2 + 30, x1 - 30 : x2 + 30] = False
    assert np.abs(plain.astype(int) - blurred)[away].max() <= 2


@pytest.mark.parametrize(("width", "dark"), [(PHONE, True), (DESKTOP, False)])
def test_it_fits_and_can_be_read(camera_browser: Any, address: str, width: int, dark: bool) -> None:
    camera_browser.show_address(f"{address}index.html", width, dark=dark)
    camera_browser.run(READY)
    camera_browser.run(SAMPLE)
    assert camera_browser.run("document.documentElement.scrollWidth") <= width
    assert camera_browser.run(TOO_WIDE) == []
    least, where = camera_browser.run(CONTRAST)
    assert least >= 4.5, where


def test_every_control_has_a_name(page: Any) -> None:
    nameless = page.run("""[...document.querySelectorAll("button, input, select")].filter((part) =>
      !part.textContent.trim() && !part.labels?.[0]?.textContent.trim()).map((part) => part.id)""")
    assert nameless == []


def test_the_detector_says_what_it_is(page_dir: Path) -> None:
    declared = json.loads((page_dir / "detector.json").read_text())
    assert declared["name"] == "yunet-n" and declared["input"]["resize"] == "none"
    index = (page_dir / "index.html").read_text()
    assert "{" not in index.split("<body>")[1] and "yunet-n" in index and "MIT" in index
