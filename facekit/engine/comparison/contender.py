"""One detector of a comparison: what the user names, and the process that runs it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from facekit.base.installation import package_dir
from facekit.base.nearest import did_you_mean
from facekit.errors import FacekitError
from facekit.targets.reading.layouts import LAYOUTS
from facekit.targets.table import BACKENDS, main_file, target_of
from facekit.weights.missing import missing_weights

LONGEST_ANSWER = 64 << 20  # characters


@dataclass(frozen=True)
class Named:
    """What one word of the command line means: [TEMPLATE=]FILE[@RUNTIME]."""

    name: str  # in tables; unique in a comparison
    weights: Path
    template: str | None  # name, template.yaml or work dir
    layout: str | None
    backend: str  # of BACKENDS


def parse_named(word: str, runtimes: tuple[str, ...] = ()) -> list[Named]:
    """The contenders that a word names: one, or one a runtime that reads the file.

    Raises FacekitError for a file that isn't there, a runtime that is none, or none that reads the file.
    """
    text, kind, told = word, "", ""
    if not os.path.lexists(text) and "=" in text:
        kind, _, text = text.partition("=")
    if not os.path.lexists(text) and "@" in text:
        text, _, told = text.rpartition("@")
    weights = main_file(_bundled() if text == "bundled" else Path(text))
    if not weights.is_file():
        raise missing_weights(Path(text))
    fitting = _readers(weights)
    for runtime in (told,) * bool(told) or runtimes:
        if runtime not in BACKENDS:
            hint = did_you_mean(runtime, BACKENDS)
            raise FacekitError(f"{word}: there is no runtime {runtime!r}.{hint} Known: {', '.join(BACKENDS)}.")
    if told and told not in fitting:
        raise FacekitError(f"{word}: {told} doesn't read {weights.name}; {', '.join(fitting)} do.")
    chosen = [told] if told else [runtime for runtime in runtimes if runtime in fitting] or fitting[:1]
    layout = kind if kind in LAYOUTS else None
    shown = "bundled" if text == "bundled" else weights.name
    return [
        Named(
            shown if runtime == fitting[0] and len(chosen) == 1 else f"{shown} @{runtime}", weights,
            None if layout else kind or None, layout, runtime,
        )
        for runtime in chosen
    ]  # fmt: skip


def distinct(contenders: list[Named]) -> list[Named]:
    """The same, those of one name called by their folders too, or numbered."""
    found: list[Named] = []
    for named in contenders:
        alike = [other for other in contenders if other.name == named.name]
        name = named.name if len(alike) == 1 else f"{named.weights.parent.name}/{named.name}"
        taken = {other.name for other in found}
        number = next(count for count in range(1, len(contenders) + 2) if _numbered(name, count) not in taken)
        found.append(dataclasses.replace(named, name=_numbered(name, number)))
    return found


def _numbered(name: str, count: int) -> str:
    return name if count == 1 else f"{name} ({count})"


def _bundled() -> Path:
    from facekit.detector import BUNDLED_WEIGHTS

    return BUNDLED_WEIGHTS


def _readers(weights: Path) -> list[str]:
    """Runtimes of the file, its own first."""
    from facekit.targets.table import TARGETS

    own = target_of(weights)
    if own is None:
        raise FacekitError(f"{weights}: unknown kind of weights.")
    suffix = weights.suffix.lower()
    others = [name for name, target in TARGETS.items() if suffix in target.reads and name != own.name]
    return [own.name, *others, *(["openvino"] if suffix == ".onnx" else [])]


class Contender:
    """A detector in its own process. Use as a context manager: the process ends with it."""

    def __init__(self, named: Named, threads: int) -> None:
        self.named, self.threads = named, threads
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(
                filter(None, (str(package_dir().parent), os.environ.get("PYTHONPATH", "")))
            ),
            "OMP_NUM_THREADS": str(threads),
        }  # fmt: skip
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "facekit.engine.comparison.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment,
        )  # fmt: skip

    def __enter__(self) -> Contender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The process's answer. Raises FacekitError, which names the contender, for what it can't do, and where it has
        ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline(LONGEST_ANSWER)
        except BrokenPipeError:
            line = ""
        if not line.endswith("\n"):
            raise FacekitError(f"{self.named.name}: its process has ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise FacekitError(answer["error"])
        return answer

    def open(self, picture: Path, size_wh: tuple[int, int], scale: str) -> dict[str, Any]:
        """Opens the weights; the answer has `cold_start_s` too, from the start of the process to the first faces."""
        named = self.named
        answer = self.ask(
            "open", weights=str(named.weights), template=named.template, layout=named.layout, backend=named.backend,
            threads=self.threads, picture=str(picture), size_wh=size_wh, scale=scale,
        )  # fmt: skip
        return answer | {"cold_start_s": time.perf_counter() - self.started}

    def _last_words(self) -> str:
        code = self.process.wait()
        if code < 0:
            return f"signal {signal.Signals(-code).name}; the memory may have run out."
        self.errors.seek(0)
        lines = self.errors.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else f"exit code {code}"
