"""One line a request and event, for people or for machines. Nothing of a header, a query or a body stands in it."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from facekit.errors import masked

Format = Literal["json", "text"]
REQUESTS = "facekit.serving.requests"  # the logger of lines a request
EXTRA = "facts"  # a record's attribute: what it tells beside its message


class JournalLines(logging.Formatter):
    def __init__(self, kind: Format) -> None:
        super().__init__()
        self.kind = kind

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        facts: dict[str, Any] = getattr(record, EXTRA, {})
        message = masked(record.getMessage())
        trouble = self.formatException(record.exc_info) if record.exc_info else None
        if self.kind == "json":
            row = {"time": time, "level": record.levelname.lower(), "process": record.process, "message": message}
            return json.dumps(row | facts | ({"traceback": trouble} if trouble else {}))
        told = " ".join(f"{name}={value}" for name, value in facts.items())
        line = " ".join(filter(None, (time, record.levelname.lower(), _printable(message), _printable(told))))
        return line if trouble is None else f"{line}\n{trouble}"


def _printable(text: str) -> str:
    """On one line: what a client sends can't forge a second one."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def start_journal(kind: Format) -> None:
    """Sends what facekit and uvicorn log to standard error, in this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JournalLines(kind))
    for name, level in (("facekit", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level)
