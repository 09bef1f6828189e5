"""What detectors are exported to and run in: one target a row, one target a file."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from facekit.base.nearest import did_you_mean
from facekit.errors import FacekitError

GRAPH_PACKAGES = ("torch", "torchvision", "array_api_compat")  # that build the graph which all targets export
ONNX_PACKAGES = ("onnx", "onnxscript")  # that write the draft which some are made from
COMPILERS = ("g++", "clang++", "c++")  # of C++, any of which will do


@dataclass(frozen=True)
class Target:
    """One way to deploy a detector: what it consists of, how it is written, and what runs it.

    Its module has `write(draft, path)` where `made_from` is set, and `open_weights(weights, template, device, threads)`
    where `packages` run it here.
    """

    name: str
    module: str  # below facekit.targets
    # that export writes, the one to open first; a name that ends with / is a folder's, {name} stands for the template
    files: tuple[str, ...] = ()
    made_from: Literal["graph", "onnx"] | None = None  # the graph in PyTorch or the ONNX draft; None: never written
    reads: tuple[str, ...] = ()  # suffixes of the files that it opens by itself
    packages: tuple[str, ...] = ()  # that run it, by the names to import; facekit.base.extras knows what brings them
    writers: tuple[str, ...] = ()  # that write it, besides those of what it is made from
    alike: tuple[str, ...] = ()  # suffixes of files, besides the first, that are the same model once more
    texts: tuple[str, ...] = ()  # suffixes of files that people edit: kept where they did
    any_size: bool = True  # whether one file takes pictures of any size, where the template does
    one_size: bool = True  # whether it can be made for one size alone, where the template takes any
    architectures: tuple[str, ...] = ()  # of the templates that can be written to it; none: all
    runs: bool = True  # whether open_weights is there; else nothing is compared, which is said
    takes_device: bool = False  # whether it runs elsewhere than on the CPU, where one says so
    takes_threads: bool = True  # whether their number can be said
    programs: tuple[str, ...] = ()  # one of which must be installed to run it; none: it needs none

    @property
    def runs_here(self) -> bool:
        """Whether this machine can run it, given its packages."""
        return self.runs and (not self.programs or any(map(shutil.which, self.programs)))

    @property
    def needed_to_write(self) -> tuple[str, ...]:
        """All packages that writing and comparing it needs, by the names to import."""
        of_draft = ONNX_PACKAGES if self.made_from == "onnx" else ()
        return tuple(dict.fromkeys((*GRAPH_PACKAGES, *of_draft, *self.writers, *self.packages)))

    def models(self, folder: Path, template_name: str) -> list[Path]:
        """Those of paths() that are opened, each of which is a whole model."""
        first, *others = self.paths(folder, template_name)
        return [first, *(path for path in others if path.suffix in self.alike)]

    def paths(self, folder: Path, template_name: str) -> list[Path]:
        """What an export of a template into the folder writes, the one to open first."""
        return [folder / file.format(name=identifier(template_name)) for file in self.files]


def identifier(template_name: str) -> str:
    """A template's name as programming languages take names: yunet_n."""
    plain = re.sub("[^A-Za-z0-9]+", "_", template_name).strip("_")
    return plain if plain[:1].isalpha() else f"detector_{plain}".rstrip("_")


TARGETS = {
    target.name: target
    for target in (
        Target("pytorch", "pytorch", reads=(".pth", ".pt", ".tar", ".safetensors"), packages=("torch",),
               takes_device=True),
        Target(
            "onnx", "onnx", files=("model.onnx",), made_from="graph", reads=(".onnx",),
            packages=("onnxruntime",), writers=ONNX_PACKAGES, takes_device=True,
        ),
        Target(
            "openvino", "openvino", files=("model.xml", "model.bin"), made_from="onnx", reads=(".xml", ".bin"),
            packages=("openvino",),
        ),
        Target(
            "web", "web", files=(
                "index.html", "page.css", "page.js", "worker.js", "decode.js", "detector.json", "detector.onnx",
                "sample.jpg", "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm",
            ), made_from="onnx", packages=("onnxruntime",), texts=(".html", ".css", ".js"),
        ),
        Target(
            "cpp", "cpp", made_from="graph", reads=(".hpp",), programs=COMPILERS, architectures=("yunet", "ultralight"),
            files=("cpp/facekit_{name}.hpp", "cpp/main.cpp", "cpp/CMakeLists.txt", "cpp/README.md"),
            texts=(".cpp", ".txt", ".md"), one_size=False,
        ),
        Target(
            "libfacedetection", "libfacedetection", made_from="graph", architectures=("yunet",), runs=False,
            files=("libfacedetection/facedetectcnn-data.cpp", "libfacedetection/README.md"),
            texts=(".md",), one_size=False,
        ),
        Target(
            "opencv4", "opencv4", files=("model-opencv4.onnx",), made_from="graph", packages=("cv2",),
            writers=ONNX_PACKAGES, any_size=False,
        ),
        # Other runtimes of the same .onnx, by name only.
        Target("opencv", "opencv", reads=(".onnx",), packages=("cv2",)),
        Target("facedetectoryn", "face_detector_yn", reads=(".onnx",), packages=("cv2",), architectures=("yunet",)),
        Target(
            "ncnn", "ncnn", files=("model.ncnn.param", "model.ncnn.bin", "model.ncnn.param.facekit.yaml"),
            made_from="graph", reads=(".param",), packages=("ncnn",), writers=("pnnx",),
        ),
        Target(
            "torchscript", "torchscript", files=("model.ts", "model.pt2"), made_from="graph", reads=(".ts", ".pt2"),
            alike=(".pt2",), packages=("torch",), takes_device=True,
        ),
        Target(
            "executorch", "executorch", files=("model.pte",), made_from="graph", reads=(".pte",),
            packages=("executorch", "torch"), takes_threads=False,
        ),
        Target(
            "tflite", "tflite", files=("model.tflite", "model.nhwc.tflite"), made_from="graph", reads=(".tflite",),
            alike=(".tflite",), packages=("ai_edge_litert",), any_size=False,
        ),
        Target(
            "coreml", "coreml", files=("model.mlpackage/",), made_from="graph", writers=("coremltools",),
            any_size=False, runs=False,
        ),
        Target("mnn", "mnn", files=("model.mnn",), made_from="onnx", reads=(".mnn",), packages=("MNN",)),
    )
}  # fmt: skip
FORMATS = tuple(name for name, target in TARGETS.items() if target.made_from is not None)
DEFAULT_FORMATS = ("onnx", "openvino")
WEIGHT_SUFFIXES = tuple(dict.fromkeys(suffix for target in TARGETS.values() for suffix in target.reads))
BACKENDS = (
    "auto",
    *(name for name, target in TARGETS.items() if target.reads),
)  # base.options.Runtime lists them

# Files of one name but for the suffix that are opened together: the second by way of the first.
PAIRS = {".xml": ".bin", ".param": ".bin"}


def files_of(weights: Path) -> list[Path]:
    """All files that a model consists of, given any of them: both of an .xml or a .param and its .bin."""
    suffix = weights.suffix.lower()
    if suffix == ".bin":
        main = main_file(weights)
        return [weights] if main == weights else [main, weights]
    return [weights, weights.with_suffix(PAIRS[suffix])] if suffix in PAIRS else [weights]


def main_file(weights: Path) -> Path:
    """The file to open: for a .bin the .xml (OpenVINO) or the .param (ncnn) beside it.

    Raises FacekitError where both lie there, as both may mean the one .bin.
    """
    if weights.suffix.lower() != ".bin":
        return weights
    beside = [path for path in (weights.with_suffix(suffix) for suffix in PAIRS) if path.is_file()]
    if len(beside) > 1:
        names = " and ".join(path.name for path in beside)
        raise FacekitError(f"{weights}: {names} lie beside it. Give the one that is meant in place of the .bin.")
    return beside[0] if beside else weights


def target_of(weights: Path) -> Target | None:
    """The target that opens a file of this name; None where no suffix is known."""
    main = main_file(weights)
    return next((target for target in TARGETS.values() if main.suffix.lower() in target.reads), None)


def find_format(name: str) -> Target:
    """Raises FacekitError, with the nearest one, for a name that is no format to export to."""
    if name not in FORMATS:
        raise FacekitError(
            f"`formats`: there is no format {name!r}.{did_you_mean(name, FORMATS)} Expected some of "
            f"{', '.join(FORMATS)}, or all."
        )
    return TARGETS[name]


def missing_packages(target: Target) -> list[str]:
    """Of those that writing and comparing it needs, the ones that are not installed."""
    return [package for package in target.needed_to_write if find_spec(package) is None]
