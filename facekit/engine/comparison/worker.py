"""The process of one detector that is measured: JSON lines in, JSON lines out. Nothing else lives in it, so that its
memory and its cold start are the detector's own.

Run as `python -m facekit.engine.comparison.worker`; facekit.engine.comparison.contender talks to it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from facekit.detector import Detector
from facekit.errors import FacekitError
from facekit.feed import prepare
from facekit.ops.head import declared_head
from facekit.pictures.read import read_picture
from facekit.protocol import at_scale
from facekit.targets import open_backend
from facekit.template import Template, find_template, load_template


class Worker:
    """Answers requests about one detector."""

    def __init__(self) -> None:
        self.detector: Detector | None = None
        self.image_bgr: NDArray[np.uint8] = np.zeros((1, 1, 3), dtype=np.uint8)

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Opens the weights and finds the first picture's faces."""
        import cv2

        cv2.setNumThreads(request["threads"])
        template = None if request["template"] is None else load_template(find_template(request["template"]))
        backend = open_backend(
            Path(request["weights"]), template, "cpu", request["threads"], request["backend"], request["layout"]
        )
        self.detector = Detector(backend, rescaled(backend.template, request["scale"]))
        width, height = request["size_wh"]
        self.image_bgr = np.asarray(cv2.resize(read_picture(Path(request["picture"])), (width, height)), dtype=np.uint8)
        self.detector.detect(self.image_bgr)
        fed, _ = prepare(self.image_bgr, self.detector.template)
        return {
            "detector": self.detector.template.name,
            "protocol": self.detector.protocol(),
            "fed_hw": [fed.shape[0], fed.shape[1]],
            "score_threshold": self.detector.template.evaluation.score_threshold,
        }

    def time(self, request: dict[str, Any]) -> dict[str, Any]:
        """Seconds of the picture, several times one after the other."""
        assert self.detector is not None, "open comes first"
        seconds = []
        for _ in range(request["times"]):
            started = time.perf_counter()
            self.detector.detect(self.image_bgr)
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}

    def detect(self, request: dict[str, Any]) -> dict[str, Any]:
        """The faces of pictures; why, of those that can't be read."""
        assert self.detector is not None, "open comes first"
        answers: list[dict[str, Any]] = []
        for name, size_wh in request["pictures"]:
            try:
                image_bgr = read_picture(Path(name), None if size_wh is None else tuple(size_wh))
            except FacekitError as error:
                answers.append({"lost": str(error)})
                continue
            started = time.perf_counter()
            faces = self.detector.detect(image_bgr)
            seconds = time.perf_counter() - started
            rows = np.concatenate([faces.boxes_xyxy, faces.scores[:, None]], axis=1)
            answers.append({"faces": rows.astype(float).tolist(), "seconds": seconds})
        return {"pictures": answers}

    def memory(self, request: dict[str, Any]) -> dict[str, Any]:
        """The most that this process has held, bytes; null where the system doesn't say."""
        return {"peak_bytes": peak_bytes()}


def rescaled(template: Template, scale: str) -> Template:
    """At the comparison's scale, where the network takes any size; else at its own."""
    return at_scale(template, scale) if declared_head(template.model).any_size else template


def peak_bytes() -> int | None:
    """Of the address space since the process replaced its parent's: getrusage() would count that one, too."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Until the requests end. What goes wrong is an answer, too."""
    worker = Worker()
    known: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "open": worker.open, "time": worker.time, "detect": worker.detect, "memory": worker.memory,
    }  # fmt: skip
    for line in requests:
        request = json.loads(line)
        try:
            answer = known[request["do"]](request)
        except FacekitError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # runtimes print: not among the answers
    serve(sys.stdin, channel)
