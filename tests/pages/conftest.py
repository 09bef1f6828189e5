"""Records with figures as they are in life, and a headless Chromium to look at pages with."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekit.records.evaluation import (
    CalibrationBin,
    Crop,
    CurvePoints,
    EvaluationRecord,
    GroupRow,
    Metric,
    ThresholdRow,
)

EVENTS = ("Parade", "Handshaking", "Demonstration", "Riot", "Dancing", "Car Accident", "Funeral", "Cheering",
          "Election Campaign", "Press Conference", "People Marching", "Meeting", "Group", "Interview", "Traffic",
          "Stock Market", "Award Ceremony", "Ceremony", "Concerts", "Couple")  # fmt: skip
BROWSER_TIMEOUT_S = 60.0


def make_jpeg(seed: int, side: int = 96) -> bytes:
    """A drawn disc on a ground of some colour."""
    rng = np.random.default_rng(seed)
    canvas = np.full((side, side, 3), rng.integers(40, 200, 3), np.uint8)
    cv2.circle(canvas, (side // 2, side // 2), side // 3, rng.integers(90, 255, 3).tolist(), -1, cv2.LINE_AA)
    cv2.rectangle(canvas, (side // 6, side // 6), (side - side // 6, side - side // 6), (80, 220, 60), 2)
    return cv2.imencode(".jpg", canvas)[1].tobytes()


def make_curve(name: str, ap: float, points: int = 200) -> CurvePoints:
    recall = np.linspace(0, ap + 0.02, points)
    precision = 1 - 0.6 * (recall / recall[-1]) ** 14 - 0.04 * recall
    return CurvePoints(name, tuple(recall.tolist()), tuple(precision.tolist()), ap)


def make_record(shift: float = 0.0, **changes: Any) -> EvaluationRecord:
    """An evaluation with everything in it; shift (per cent) makes another one."""
    rng = np.random.default_rng(1)
    metrics = [
        Metric("widerface_e", "WiderFace Easy", "%", 89.23 + shift),
        Metric("widerface_m", "WiderFace Medium", "%", 88.32 + shift),
        Metric("widerface_h", "WiderFace Hard", "%", 81.07 - shift),
        Metric("ap", "AP @ [IoU=0.50:0.95]", "%", 34.512 + shift),
        Metric("ap_64x64", "AP for faces > 64x64", "%", 92.4 + shift),
        *(Metric(f"recall_fp_{rate:g}", f"Recall at {rate:g} false positives a picture", "%", recall + shift)
          for rate, recall in ((0.01, 31.2), (0.1, 58.84), (1, 79.05))),
        Metric("nme", "Landmark error (NME)", "%", 5.31 - shift / 10),
        *(Metric(f"latency_p{p}", f"Latency, {p} % of pictures within", "ms", t + shift)
          for p, t in ((50, 14.2), (90, 21.75), (99, 38.4))),
        Metric("size", "Size", "Mp", 0.0758),
        Metric("complexity", "Complexity", "GFLOPs", 0.149),
    ]  # fmt: skip
    attributes = {
        "blur": ("clear", "normal", "heavy"), "expression": ("typical", "exaggerate"),
        "illumination": ("normal", "extreme"), "occlusion": ("none", "partial", "heavy"),
        "pose": ("typical", "atypical"),
    }  # fmt: skip
    heights = (("over 10 px", 78.2), ("over 32 px", 88.9), ("over 64 px", 92.4), ("over 100 px", 93.1))
    groups = [GroupRow("height", name, 4000 // (index + 1), ap + shift) for index, (name, ap) in enumerate(heights)]
    groups += [GroupRow("event", name, int(n), float(ap) + shift) for name, n, ap in
               zip(EVENTS, rng.integers(20, 900, len(EVENTS)), rng.uniform(52, 97, len(EVENTS)),
                   strict=True)]  # fmt: skip
    for kind, names in attributes.items():
        groups += [GroupRow(kind, name, 3000 // 3**i, 86.0 - 21 * i + shift) for i, name in enumerate(names)]
    counts = (41210, 5230, 2140, 1180, 902, 811, 790, 822, 1150, 2890)
    calibration = [
        CalibrationBin(i / 10, (i + 1) / 10, n, i / 10 + 0.05, min(0.99, 0.03 + (i / 10 + 0.05) ** 1.5))
        for i, n in enumerate(counts)
    ]
    crops = [
        Crop("miss", f"{i}--{EVENTS[i]}/{i}_{EVENTS[i]}_{i}_{37 * i}.jpg".replace(" ", "_"),
             (10.0, 12.0, 310.0 - 20 * i, 402.0 - 25 * i), 0.3 * (i % 2), make_jpeg(i)) for i in range(8)
    ] + [
        Crop("false positive", f"{i}--{EVENTS[i]}/{i}_{EVENTS[i]}_{i}_{53 * i}.jpg".replace(" ", "_"),
             (30.0, 40.0, 80.0 + 3 * i, 99.0 + 4 * i), 0.98 - 0.03 * i, make_jpeg(20 + i)) for i in range(8)
    ]  # fmt: skip
    record = EvaluationRecord(
        detector="yunet-n",
        summary="75 thousand parameters: faces and five landmarks, in real time on a small processor.",
        weights="snapshot.pth",
        weights_sha256="3d5a0b9c" * 8,
        runtime="pth",
        protocol="own size, zero-padded to 32; score 0.02, NMS 0.45, no cap",
        sets=("566 WIDER pictures",),
        measured_at="2026-11-22 09:30 UTC",
        versions={"facekit": "0.2.0", "python": "3.11.9", "torch": "2.14.1", "opencv": "5.0.0"},
        machine="2 cores of an Intel Xeon, Linux 6.1",
        metrics=tuple(metrics),
        published={"widerface_e": 89.2, "widerface_m": 88.3, "widerface_h": 81.1, "size": 0.076, "complexity": 0.149},
        curves=tuple(make_curve(n, (ap + shift) / 100) for n, ap in (("easy", 89.2), ("medium", 88.3), ("hard", 81.1))),
        groups=tuple(groups),
        calibration=tuple(calibration),
        crops=tuple(crops),
        thresholds=tuple(
            ThresholdRow(score, 100 * score**0.2, 96 - 40 * score**2, 92 - 30 * abs(score - 0.37), 0.4 * (1 - score),
                         score == 0.37) for score in (0.02, 0.1, 0.37, 0.5, 0.9)
        ),
    )  # fmt: skip
    return dataclasses.replace(record, **changes)


def make_bare_record(**changes: Any) -> EvaluationRecord:
    """An evaluation that found nothing out."""
    return make_record(
        **{"summary": "", "weights_sha256": "", "machine": "", "versions": {}, "sets": (), "metrics": (),
           "published": {}, "curves": (), "groups": (), "calibration": (), "crops": (), "thresholds": (), **changes},
    )  # fmt: skip


@pytest.fixture
def record() -> EvaluationRecord:
    return make_record()


class Page(HTMLParser):
    """What a page holds: its elements, ids, text and what it would fetch."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "wbr", "rect", "line", "polyline", "circle", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        last = self.open.pop()
        assert last == tag, f"<{last}> is closed by </{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.said.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get("id"))]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.said).split())

    def fetched(self) -> list[str]:
        """Addresses that a browser would load by itself."""
        names = ("src", "srcset", "href", "poster", "data", "action")
        found = [v for tag, attributes in self.elements if tag != "a" for k in names if (v := attributes.get(k))]
        return [address for address in found if not address.startswith("data:")]


@pytest.fixture
def parse() -> type[Page]:
    return Page


class Browser:
    """Chromium, spoken to over a pipe in the DevTools protocol."""

    def __init__(self, program: str, folder: Path, flags: Sequence[str] = ()) -> None:
        commands_read, self.commands = os.pipe()
        self.answers, answers_write = os.pipe()
        command = [
            program, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", f"--user-data-dir={folder}", "--remote-debugging-pipe",
            *flags,
        ]  # fmt: skip
        # The protocol wants file descriptors 3 and 4; a shell puts them there without touching ours.
        shell = ["bash", "-c", f'exec "$@" 3<&{commands_read} 4>&{answers_write}', "bash", *command]
        self.process = subprocess.Popen(
            shell, pass_fds=(commands_read, answers_write), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(commands_read)
        os.close(answers_write)
        self.numbers = itertools.count(1)
        self.rest = b""
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        return self._until(lambda answer: answer.get("id") == number)["result"]

    def _until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Reads on until the message that is wanted; events on the way are kept."""
        end = time.monotonic() + BROWSER_TIMEOUT_S
        while (left_s := end - time.monotonic()) > 0:
            if b"\0" not in self.rest:
                if select.select([self.answers], [], [], left_s)[0]:
                    chunk = os.read(self.answers, 1 << 20)
                    assert chunk, "the browser has gone"
                    self.rest += chunk
                continue
            line, _, self.rest = self.rest.partition(b"\0")
            message = json.loads(line)
            if "id" not in message:
                self.events.append(message)
            if wanted(message):
                assert "error" not in message, message
                return message
        raise TimeoutError("the browser doesn't answer")

    def show(self, path: Path, width: int = 1400, height: int = 900, dark: bool = False) -> None:
        """Loads a file of the disk into a window of that many CSS pixels."""
        self.show_address(path.resolve().as_uri(), width, height, dark)

    def show_address(self, url: str, width: int = 1400, height: int = 900, dark: bool = False) -> None:
        """The same of an address."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.events.clear()
        self.call("Page.navigate", url=url)
        if not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """Exceptions and messages on the console, breaches of the policy among them."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self.events if event["method"] in kinds]

    def requests(self) -> list[str]:
        asked = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith("data:")]

    def screenshot(self, path: Path, whole: bool = True) -> None:
        import base64

        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def close(self) -> None:
        os.close(self.commands)
        os.close(self.answers)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def find_browser() -> str:
    """The program; skips the test where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("needs Chromium or Chrome on the PATH")
    return program


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(find_browser(), tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


@pytest.fixture
def other_record() -> Callable[..., EvaluationRecord]:
    """make_record, for runs beside `record`."""
    return make_record
