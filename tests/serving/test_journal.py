from __future__ import annotations

import json
import logging

import pytest

from facekit.serving.journal import EXTRA, JournalLines


def record(message: str, **facts: object) -> logging.LogRecord:
    made = logging.LogRecord("facekit", logging.INFO, "f.py", 1, message, None, None)
    setattr(made, EXTRA, facts)
    return made


def test_what_clients_send_can_not_forge_a_line() -> None:
    told = JournalLines("text").format(record("answered", path="/a\n2026 info fake\x1b[31m\u2028", status=200))
    assert len(told.splitlines()) == 1 and "\x1b" not in told
    assert told.endswith("info answered path=/a\\n2026 info fake\\x1b[31m\\u2028 status=200")


def test_json() -> None:
    (line,) = JournalLines("json").format(record("answered", path="/a\nb", faces=2)).splitlines()
    row = json.loads(line)
    assert (row["message"], row["path"], row["faces"], row["level"]) == ("answered", "/a\nb", 2, "info")
    assert row["time"].endswith("Z")


@pytest.mark.parametrize("kind", ["text", "json"])
def test_secrets_are_hidden(kind: str) -> None:
    told = JournalLines(kind).format(record("can't read http://me:secret@host/a?token=abcdef"))  # type: ignore[arg-type]
    assert "secret" not in told and "abcdef" not in told
