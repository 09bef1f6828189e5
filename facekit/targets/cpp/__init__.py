"""The C++ header: one file with weights and inference. Here it is compiled, which proves that it gives what PyTorch
gives, and run through a C interface."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from facekit.base.files import write_text
from facekit.base.reading import HEAD_BYTES, read_text, stand_in
from facekit.errors import FacekitError
from facekit.machine.cores import usable_cores
from facekit.structures import Decoded, Detections
from facekit.targets import Backend
from facekit.targets.cpp.header import (
    about_in,
    check_is_ours,
    check_template,
    header_text,
    own_template,
    part,
    ultralight_options,
    yunet_options,
)  # fmt: skip
from facekit.targets.reading.about import parse_about, template_for
from facekit.targets.table import COMPILERS, identifier
from facekit.template import Template

if TYPE_CHECKING:
    from facekit.targets.writing.draft import Draft

MAX_BYTES = 1 << 28  # of a header
COMPILE_TIMEOUT_S = 600
MOST_FACES = 1 << 16  # of a picture, through the C interface
ROW = 15  # numbers of a face: box, score, five points


class HeaderBackend(Backend):
    """A header of this facekit's, compiled for this machine."""

    fixed_size_hw: tuple[int, int] | None = None
    fixed_batch: int | None = None

    def __init__(
        self, weights: Path, template: Template | None, threads: int | None, command: Sequence[str] = ()
    ) -> None:
        """`command`: a compiler and its flags in place of the first one that is found."""
        text = read_text(weights, MAX_BYTES, "Check the path.")
        if (what := stand_in(text[:HEAD_BYTES].encode())) is not None:
            raise FacekitError(f"{weights}: is {what}.")
        said = parse_about(about_in(text), weights)
        named = template_for(template, said, weights)
        check_template(named)
        written = own_template(text, said, named) if said is not None else named
        check_is_ours(text, written, str(weights))
        self.template = template or written
        self.has_landmarks = self.template.model.head is not None and self.template.model.head.has_landmarks
        threads = threads or usable_cores()
        commands = (tuple(command),) if command else _commands(weights)
        self.library = _compiled(text, identifier(self.template.name), commands, str(weights))
        self.detector = self.library.facekit_open(threads)
        if not self.detector:
            raise FacekitError(f"{weights}: has not as many numbers as its network. Export it again.")

    def __del__(self) -> None:
        if getattr(self, "detector", None):
            self.library.facekit_close(self.detector)

    @property
    def vectors(self) -> str:
        """Which instructions the compiler took: AVX-512, AVX2, NEON, SSE2 or plain C++."""
        return cast(bytes, self.library.facekit_vectors()).decode()

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Decoded:
        priors = self._priors(images_bgr[0], None, None, None)
        shape = (len(images_bgr), priors)
        boxes, scores = np.empty((*shape, 4), dtype=np.float32), np.empty(shape, dtype=np.float32)
        landmarks = np.empty((*shape, 10), dtype=np.float32) if self.has_landmarks else None
        for index, image_bgr in enumerate(images_bgr):
            self._priors(image_bgr, boxes[index], scores[index], None if landmarks is None else landmarks[index])
        return Decoded(boxes, scores, landmarks)

    def _priors(
        self, image_bgr: NDArray[np.uint8], boxes: NDArray[np.float32] | None, scores: NDArray[np.float32] | None,
        landmarks: NDArray[np.float32] | None,
    ) -> int:  # fmt: skip
        image_bgr = np.ascontiguousarray(image_bgr)
        height, width = image_bgr.shape[:2]
        count = self.library.facekit_priors(
            self.detector, _pointer(image_bgr), width, height, *map(_pointer, (boxes, scores, landmarks))
        )
        return int(self._checked(count, image_bgr))

    def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """What a program that includes the header gets of a picture of any size: (H, W, 3) BGR, rows at any
        distance."""
        height, width = image_bgr.shape[:2]
        if image_bgr.strides[1:] != (3, 1):
            image_bgr = np.ascontiguousarray(image_bgr)
        rows = np.empty((MOST_FACES, ROW), dtype=np.float32)
        step = image_bgr.strides[0] if image_bgr.size else 0
        count = self.library.facekit_detect(
            self.detector, _pointer(image_bgr), width, height, step, _pointer(rows), len(rows)
        )
        rows = rows[: self._checked(count, image_bgr)]
        landmarks = rows[:, 5:].reshape(-1, 5, 2) if self.has_landmarks else None
        return Detections(rows[:, :4], rows[:, 4], landmarks)

    def _checked(self, count: int, image_bgr: NDArray[np.uint8]) -> int:
        if count < 0:
            height, width = image_bgr.shape[:2]
            raise FacekitError(f"A picture of {width}x{height}: the header can't take it: wrong size, or no memory.")
        return count


def _pointer(array: NDArray[np.uint8] | NDArray[np.float32] | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def _commands(source: Path) -> tuple[tuple[str, ...], ...]:
    """Compilers and flags in the order to try them."""
    compiler = next((path for path in map(shutil.which, COMPILERS) if path), None)
    if compiler is None:
        raise FacekitError(
            f"{source}: running a header takes a C++ compiler, one of {', '.join(COMPILERS)}. Install one (Debian, "
            f"Ubuntu: apt-get install g++), or open the .onnx."
        )
    plain = (compiler, "-O3", "-march=native")
    return (*plain, "-fopenmp"), plain  # OpenMP comes with clang++ only sometimes


@lru_cache(maxsize=4)  # what a process has loaded stays loaded anyway
def _compiled(text: str, name: str, commands: tuple[tuple[str, ...], ...], source: str) -> ctypes.CDLL:
    """The header with a C interface as a library of this process. Nothing stays on the disk."""
    with tempfile.TemporaryDirectory(prefix="facekit-") as folder:
        shim, library = Path(folder) / "shim.cpp", Path(folder) / "shim.so"
        shim.write_text(f"{text}\n#define FACEKIT_NAME {name}\n{part('shim.cpp')}", encoding="utf-8")
        reason = ""
        for command in commands:
            flags = ("-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden")
            whole = [*command, *flags, str(shim), "-o", str(library)]
            try:
                done = subprocess.run(whole, capture_output=True, timeout=COMPILE_TIMEOUT_S, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise FacekitError(f"{source}: {command[0]} can't be run: {error}") from error
            if done.returncode == 0:
                break
            lines = done.stderr.decode(errors="replace").splitlines()
            reason = next((line for line in lines if "error" in line), "no reason given")
        else:
            raise FacekitError(f"{source}: {commands[-1][0]} can't compile it: {reason[:300]}")
        loaded = ctypes.CDLL(str(library))
    loaded.facekit_open.argtypes, loaded.facekit_open.restype = [ctypes.c_int], ctypes.c_void_p
    loaded.facekit_close.argtypes, loaded.facekit_close.restype = [ctypes.c_void_p], None
    picture: list[Any] = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    loaded.facekit_priors.argtypes = [*picture, *[ctypes.c_void_p] * 3]
    loaded.facekit_detect.argtypes = [*picture, ctypes.c_longlong, ctypes.c_void_p, ctypes.c_longlong]
    loaded.facekit_priors.restype = loaded.facekit_detect.restype = ctypes.c_longlong
    loaded.facekit_vectors.restype = ctypes.c_char_p
    return loaded


def open_weights(weights: Path, template: Template | None, device: str | None, threads: int | None) -> HeaderBackend:
    """Compiles a header of facekit's and loads it. Raises FacekitError for one that anybody has changed but for its
    numbers, and where there is no compiler."""
    return HeaderBackend(weights, template, threads)


def write(draft: Draft, path: Path) -> None:
    """Writes the header, and beside it an example with its CMakeLists.txt and a README.md.

    Raises FacekitError for a template that there is no code for.
    """
    from facekit.models.ultralight import Options as UltraLightOptions
    from facekit.models.yunet import Options as YuNetOptions
    from facekit.targets.cpp.layers import layers_of, numbers

    template = draft.template
    check_template(template)
    if template.model.architecture == "yunet":
        yunet = template.model.options.parse(YuNetOptions)
        options = yunet_options(yunet.stage_channels, yunet.shared_units)
    else:
        options = ultralight_options(template.model.options.parse(UltraLightOptions).receptive_field_block)
    layers = [(layer.name, numbers(layer)) for layer in layers_of(draft.graph.network, template.input.colour_order)]
    path.parent.mkdir(exist_ok=True)
    write_text(path, header_text(template, options, draft.about.to_json(), layers))
    name = identifier(template.name)
    for file in ("main.cpp", "CMakeLists.txt", "README.md"):
        text = part(f"example/{file}").replace("@NAME@", name).replace("@PROTOCOL@", template.protocol())
        write_text(path.with_name(file), text)
