"""Which template weights are of, where the file says so. PyTorch is loaded for .pth alone."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from facekit.base.reading import read_text
from facekit.errors import FacekitError
from facekit.template import TEMPLATES_DIR
from facekit.weights.ir_file import check_ir_files
from facekit.weights.onnx_file import check_onnx_file

MAX_HEADER_BYTES = 1 << 28
HEAD_CHARACTERS = 20_000  # in which a header's constants stand


def template_of_weights(path: Path) -> str | None:
    """The template's name: what facekit wrote into the file, or of the published file that it is; None where neither
    says so. Raises FacekitError for files that can't be read, as loading them does."""
    if path.suffix.lower() == ".onnx":
        name = check_onnx_file(path).metadata.get("facekit_template")
    elif path.suffix.lower() in (".xml", ".bin") and path.with_suffix(".xml").exists():
        path = path.with_suffix(".xml")
        name = check_ir_files(path).template
    elif path.suffix.lower() == ".hpp":
        name = _template_of_header(path)
    else:
        name = _template_of_torch_file(path)
    return name or _published(path)


def _template_of_header(path: Path) -> str | None:
    """Of a C++ header: it is code, which is only looked at."""
    text = read_text(path, MAX_HEADER_BYTES, "Check the path.")[:HEAD_CHARACTERS]
    found = re.search(r'^inline constexpr char kTemplate\[\] = "([^"\n]{1,300})";$', text, re.MULTILINE)
    return found[1] if found else None


def said_by_graph(path: Path) -> str | None:
    """What an .onnx or an .xml says of itself, as targets.reading.about wrote it; None for other files, and where
    nothing is said. Raises FacekitError as template_of_weights()."""
    if path.suffix.lower() == ".onnx":
        return check_onnx_file(path).metadata.get("facekit")
    if path.suffix.lower() in (".xml", ".bin") and path.with_suffix(".xml").exists():
        return check_ir_files(path.with_suffix(".xml")).about
    return None


def _template_of_torch_file(path: Path) -> str | None:
    from facekit.weights.checkpoint import FORMAT
    from facekit.weights.torch_file import read_torch_file

    content = read_torch_file(path)
    meta = content.get("meta") if isinstance(content, dict) else None
    name = meta.get("template") if isinstance(meta, dict) and meta.get("format") == FORMAT else None
    return name if isinstance(name, str) else None


def _published(path: Path) -> str | None:
    """The template that names a file of this content as its weights; None if none or several do."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FacekitError(f"{path}: can't be read ({error.strerror}). Check the path.") from error
    texts = {file.parent.name: file.read_text(encoding="utf-8") for file in TEMPLATES_DIR.glob("*/template.yaml")}
    names = [name for name, text in texts.items() if digest in text]
    return names[0] if len(names) == 1 else None
