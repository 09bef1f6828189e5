"""Which files of rows, pages, reports and exported models may be replaced: those that facekit wrote."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from facekit.base.extras import optional_packages
from facekit.base.files import check_ours
from facekit.base.reading import open_file

HEAD_BYTES, TAIL_BYTES = 4096, 1 << 16  # a PDF's tail lists its parts
# What each format's rows begin with.
HEADS = {
    "json": rb'\{"schema":\d+,"run":\{"facekit"',
    "jsonl": rb'\{"schema":\d+,"source":',
    "csv": rb"source,frame,",
    "coco": rb'\{"info":\{"description": "faces found by ',
}
REPORTS = {
    "page": rb'.*<meta name="generator" content="facekit">',  # see facekit.pages.shell
    "plot": rb'.*(data-generator="facekit"|Software\0facekit|/Creator \(facekit\))',  # see facekit.pages.drawing
    "comparison": rb'\{\s*"facekit_comparison":',
    "table": rb"name,detector,runtime,",
    "list of findings": rb'\{\s*"statistics":',
}
# What it leaves in exported models, at their beginning or behind their numbers, and in what lies beside them.
MODELS = {
    ".onnx": rb".*\n(\x0ffacekit_version|\x07facekit)\x12",
    ".xml": rb".*<facekit>",
    ".tflite": rb".*facekit(\.json|_version)",
    ".pte": rb".*\nfacekit-sha256:",
    ".mnn": rb".*\nfacekit-sha256:",
    ".ts": rb".*/extra/facekitPK",
    ".pt2": rb".*/extra/facekitPK",
    ".mlmodel": rb".*\x07facekit",
    ".hpp": rb"// .*facekit",
    ".cpp": rb"// .*facekit",
    ".yaml": rb"# What facekit must know",
    ".json": rb'.*"has_landmarks"',
}


def check_replaceable_rows(kind: str, path: Path) -> None:
    """Raises FacekitError for a file of another's that is there: labels that `coco=annotations.json` named, say."""
    check_ours(path, lambda path: _is_own(kind, path), f"is no {kind} of faces that facekit wrote")


def check_replaceable_report(kind: str, path: Path | None) -> None:
    """The same for a page, or for what programs read, that is to be written; None: there is none."""
    if path is not None:
        check_ours(path, lambda path: _begins(path, REPORTS[kind]), f"is no {kind} that facekit wrote")


def check_replaceable_model(path: Path) -> None:
    """The same for a file of an exported model; files that look the same whoever wrote them are passed over."""
    says = _whose(path)
    if (known := MODELS.get(says.suffix.lower())) is not None:
        check_ours(path, lambda _: says.is_file() and _begins(says, known), "is no model that facekit wrote")


def _whose(path: Path) -> Path:
    """The file that says who wrote this one: beside a .bin the .xml, beside ncnn's two the third, beside the page's
    picture what it says of the detector; else itself."""
    if path.name == "sample.jpg":
        return path.with_name("detector.json")
    for suffix in (".ncnn.param", ".ncnn.bin"):
        if path.name.endswith(suffix):
            return path.with_name(f"{path.name.removesuffix(suffix)}.ncnn.param.facekit.yaml")
    return path.with_suffix(".xml") if path.suffix == ".bin" else path


def _begins(path: Path, pattern: bytes) -> bool:
    with open_file(path, sys.maxsize, "Choose another name.") as file:
        ends = file.read(HEAD_BYTES) or b""
        file.seek(max(len(ends), path.stat().st_size - TAIL_BYTES))  # a PDF says at its end what wrote it
        return re.match(pattern, ends + (file.read(TAIL_BYTES) or b""), re.DOTALL) is not None


def _is_own(kind: str, path: Path) -> bool:
    if kind == "parquet":
        with optional_packages():
            import pyarrow as pa
            from pyarrow import parquet
        try:
            return b"facekit_schema" in (parquet.read_schema(path).metadata or {})
        except (pa.ArrowException, OSError):
            return False
    return _begins(path, HEADS[kind])
