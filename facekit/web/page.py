"""The page's files: those that are the same for all detectors, and those that are a detector's own."""

from __future__ import annotations

import html
import json
from pathlib import Path

from facekit.targets.writing.check_pictures import portrait
from facekit.template import Template
from facekit.web.declaration import declaration
from facekit.web.runtime import VERSION

SITE = Path(__file__).parent / "site"
INDEX, DETECTOR, MODEL, SAMPLE = "index.html", "detector.json", "detector.onnx", "sample.jpg"
PLAIN = ("page.css", "page.js", "worker.js", "decode.js")
# Nothing of another host; pictures that the user opens are blobs; WebAssembly is compiled, no text is run.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'"
)
# With these two a browser gives the page shared memory, and so threads.
ISOLATION = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
TYPES = {
    ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript",
    ".json": "application/json", ".wasm": "application/wasm", ".onnx": "application/octet-stream", ".jpg": "image/jpeg",
}  # fmt: skip


def page_files(template: Template, size_hw: tuple[int, int] | None, licence: str) -> dict[str, bytes]:
    """Name -> content of all files but the model and the runtime's. size_hw: the only one of the graph; None: any."""
    index = (SITE / INDEX).read_text(encoding="utf-8")
    words = {
        "policy": POLICY, "name": template.name, "summary": template.summary, "licence": licence, "runtime": VERSION,
    }  # fmt: skip
    for key, text in words.items():
        index = index.replace(f"{{{key}}}", html.escape(text, quote=True))
    return {
        INDEX: index.encode(),
        **{name: (SITE / name).read_bytes() for name in PLAIN},
        DETECTOR: json.dumps(declaration(template, size_hw), indent=1).encode(),
        SAMPLE: portrait().read_bytes(),
    }
