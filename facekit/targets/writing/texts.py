"""The texts of an export that people edit, such as the C++ example. Each ends with a digest of itself, by which a later
export, of whatever version, knows whether it is as facekit wrote it."""

from __future__ import annotations

import hashlib
from pathlib import Path

COMMENTS = {
    ".cpp": "// {}", ".js": "// {}", ".txt": "# {}", ".css": "/* {} */", ".md": "<!-- {} -->", ".html": "<!-- {} -->",
}  # fmt: skip
DIGEST = "as facekit export wrote it: sha256 "


def marked(text: str, suffix: str) -> str:
    """The text and, in a comment of files with that suffix, its digest behind it."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text + COMMENTS[suffix].format(f"{DIGEST}{digest}") + "\n"


def unmarked(text: str, suffix: str) -> str:
    """What stands above its digest; all of it where that isn't right, or there is none."""
    above = "".join(text.splitlines(keepends=True)[:-1])
    return above if text == marked(above, suffix) else text


def is_to_keep(path: Path, text: str) -> bool:
    """Whether a file is there that `text` must not take the place of: somebody edited it, or wrote it himself. Empty
    ones are nobody's."""
    if not path.is_file() or not path.stat().st_size:
        return False
    there = path.read_text(encoding="utf-8", errors="replace")
    return there != text and unmarked(there, path.suffix) == there
