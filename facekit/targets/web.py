"""A page that finds faces in the browser: the ONNX file, ONNX Runtime for browsers, and the scripts between them."""

from __future__ import annotations

import shutil
from pathlib import Path

from facekit.targets.onnx import OnnxBackend
from facekit.targets.writing.draft import Draft
from facekit.template import Template
from facekit.web.page import MODEL, page_files
from facekit.web.runtime import fetch_runtime


def write(draft: Draft, path: Path) -> None:
    """Writes the page into the folder of `path`, which is its index.html.

    Raises FacekitError where the runtime is not in the cache and can't be fetched.
    """
    assert draft.onnx is not None, "the table says that it is made from ONNX"
    runtime = fetch_runtime()
    for name, content in page_files(draft.template, draft.about.size_hw, draft.about.licence).items():
        path.with_name(name).write_bytes(content)
    shutil.copyfile(draft.onnx, path.with_name(MODEL))
    for name, file in runtime.items():
        shutil.copyfile(file, path.with_name(name))


def open_weights(weights: Path, template: Template | None, device: str | None, threads: int | None) -> OnnxBackend:
    """What the page runs, outside of a browser: to compare the file. Raises FacekitError as onnx.open_weights does."""
    return OnnxBackend(weights.with_name(MODEL), template, threads)
