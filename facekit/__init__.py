"""facekit: pick a face detector template, fine-tune it, measure it, export it, compress it, watch it.

Each command is a function that does what the command line does: facekit.train("yunet-n", train_ann_files="labels.json",
save_checkpoints_to="outputs") is `facekit train --template yunet-n ...`. help(facekit.train) lists what it takes.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

__version__ = "0.5.0"

# Libraries that tell their makers of their use, unless this is said before they are imported; what is set stays.
# OpenVINO takes no such word: it tells Google of each import and conversion from forked processes, of which some wait
# for a lock for ever, and we with them. Where the package that does so is missing, it does without.
for _variable, _value in (("ORT_DISABLE_TELEMETRY", "1"), ("NNCF_CI", "1"), ("RAY_USAGE_STATS_ENABLED", "0")):
    os.environ.setdefault(_variable, _value)
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # "is missing", to the import system

if TYPE_CHECKING:
    from facekit.commands.anonymize import anonymize
    from facekit.commands.benchmark import benchmark
    from facekit.commands.browse_data import browse_data
    from facekit.commands.check_data import check_data
    from facekit.commands.compare import compare
    from facekit.commands.compress import compress
    from facekit.commands.convert_data import convert_data
    from facekit.commands.detect import detect
    from facekit.commands.doctor import doctor
    from facekit.commands.download_data import download_data
    from facekit.commands.eval_predictions import eval_predictions
    from facekit.commands.evaluate import evaluate
    from facekit.commands.export import export, export_formats
    from facekit.commands.flops import flops
    from facekit.commands.import_weights import import_weights
    from facekit.commands.instantiate import instantiate
    from facekit.commands.mark import mark
    from facekit.commands.plot import plot
    from facekit.commands.priors import priors
    from facekit.commands.quantize import quantize
    from facekit.commands.report import report
    from facekit.commands.reproduce import reproduce
    from facekit.commands.serve import serve
    from facekit.commands.templates import templates
    from facekit.commands.train import train
    from facekit.commands.visualize import visualize
    from facekit.detector import Detector

# What is reached lazily, so that `import facekit` pays for nothing.
_MODULES = {"Detector": "facekit.detector", "export_formats": "facekit.commands.export"} | {
    name: f"facekit.commands.{name}"
    for name in (
        "anonymize", "benchmark", "browse_data", "check_data", "compare", "compress", "convert_data", "detect",
        "doctor", "download_data", "eval_predictions", "evaluate", "export", "flops", "import_weights", "instantiate",
        "mark", "plot", "priors", "quantize", "report", "reproduce", "serve", "templates", "train", "visualize",
    )
}  # fmt: skip

__all__ = [
    "Detector", "__version__", "anonymize", "benchmark", "browse_data", "check_data", "compare", "compress",
    "convert_data", "detect", "doctor", "download_data", "eval_predictions", "evaluate", "export", "export_formats",
    "flops", "import_weights", "instantiate", "mark", "plot", "priors", "quantize", "report", "reproduce", "serve",
    "templates", "train", "visualize",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _MODULES:
        from facekit.base.extras import optional_packages

        with optional_packages():
            return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'facekit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
