"""Optional packages: which extra of facekit's brings each of them, and what it is for."""

from __future__ import annotations

from collections.abc import Iterator
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
    "nncf": ("compress", "INT8 and sparse networks"),
}


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
