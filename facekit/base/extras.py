"""Optional packages: which extra of facekit's brings each of them, and what it is for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from facekit.errors import FacekitError

# Name to import: the extra (pyproject.toml's optional-dependencies), and what needs it.
PACKAGES = {
    "torch": ("train", "training, .pth weights and exports"),
    "torchvision": ("train", "networks in PyTorch: training, .pth weights and exports"),
    "array_api_compat": ("train", "training, .pth weights and exports"),
    "pycocotools": ("train", "COCO's AP"),
    "scipy": ("train", "WIDER FACE's .mat files"),
    "tensorboard": ("train", "logs for TensorBoard"),
    "matplotlib": ("train", "curves and report pages"),
    "onnx": ("export", "writing ONNX, and reading weights from it"),
    "onnxscript": ("export", "writing ONNX"),
    "openvino": ("openvino", "reading, writing and running OpenVINO's .xml and .bin"),
    "av": ("video", "video with its sound, times and colours"),
    "pyarrow": ("parquet", "reading and writing Parquet"),
    "fastapi": ("serve", "facekit serve"),
    "starlette": ("serve", "facekit serve"),
    "uvicorn": ("serve", "facekit serve"),
    "h11": ("serve", "facekit serve"),
    "python_multipart": ("serve", "pictures in forms, of facekit serve"),
    "prometheus_client": ("serve", "the figures of facekit serve"),
    "ray": ("cluster", "work by several processes and machines"),
    "fsspec": ("cluster", "files in object stores"),
    "s3fs": ("cluster", "files at s3://"),
    "ncnn": ("ncnn", "running ncnn's .param and .bin"),
    "pnnx": ("ncnn", "writing ncnn's .param and .bin"),
    "MNN": ("mnn", "writing and running .mnn"),
    "ai_edge_litert": ("tflite", "running .tflite"),
    "executorch": ("executorch", "writing and running .pte"),
    "coremltools": ("coreml", "writing .mlpackage"),
    "nncf": ("compress", "INT8 and sparse networks"),
}


def explain_missing(packages: Sequence[str]) -> FacekitError:
    """What to install for packages, by their names to import, that are not there."""
    purposes = "; ".join(f"{package} for {PACKAGES[package][1]}" for package in packages)
    return FacekitError(f"not installed: {purposes}. Install: {install_line(packages)}")


def install_line(packages: Sequence[str]) -> str:
    """The command that brings them; empty for none that an extra brings."""
    extras = dict.fromkeys(PACKAGES[package][0] for package in packages if package in PACKAGES)
    return f'pip install "facekit[{",".join(extras)}]"' if extras else ""


@contextmanager
def optional_packages() -> Iterator[None]:
    """Imports of optional packages, or of modules that need some, stand in this block.

    Raises FacekitError that names the extra for a package that is not installed.
    """
    try:
        yield
    except ImportError as error:
        explained = explain_import_error(error)
        if explained is None:
            raise
        raise explained from error


def explain_import_error(error: ImportError) -> FacekitError | None:
    """What to install; None for an error that no installing mends."""
    package = (error.name or "").partition(".")[0]
    if package in PACKAGES and find_spec(package) is None:
        extra, purpose = PACKAGES[package]
        return FacekitError(
            f'{package} is not installed; it is needed for {purpose}. Install it: pip install "facekit[{extra}]"'
        )
    if "libGL" in str(error) or "libgthread" in str(error):
        return FacekitError(
            f"OpenCV can't be loaded ({error}). On Debian and Ubuntu: apt-get install libgl1 libglib2.0-0; or, without "
            f"windows: pip uninstall opencv-python && pip install opencv-python-headless"
        )
    return None
