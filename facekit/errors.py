"""The exceptions that users are meant to read, and what a command over many had to leave out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from unicodedata import category

# scheme://user:password@host, up to the last @: passwords hold signs that should have been escaped. A port before a
# path with an @ looks just so, and goes too. In a query, what names of secrets hold; and in a path, where some cameras
# want them: /user=a_password=b_channel=1. Of an address that became a path, pathlib made one slash of the two.
_SCHEME = r"(?:[a-z][a-z0-9+.-]*://|(?:https?|rtsps?|rtmps?|ftps?|srt):/)"
_USER = re.compile(rf"({_SCHEME})([^\s/@:\"']*)(:[^\s\"']*)?@", re.IGNORECASE)
_NAME = r"(?:[\w.-]*(?:pass|pwd|token|secret|key|auth|sig|credential)[\w.-]*|jwt|bearer|access|session_?(?:id|key)?)="
_VALUE = r"[^\s&;#\"']+?(?=[:.,)]*(?:[\s&;#\"']|$))"
_QUERY = re.compile(rf"([?&;#]{_NAME}){_VALUE}", re.IGNORECASE)
_PATH = re.compile(
    rf"({_SCHEME}[^\s\"'?#]{{0,300}}?[/_](?:pass(?:w(?:or)?d)?|pwd)=)[^\s&;#\"'/]+?(?=[:.,)]*(?:[\s&;#\"'/]|$))",
    re.IGNORECASE,
)
HIDDEN = "***"


def masked(text: str) -> str:
    """The text with passwords and tokens in its addresses made unreadable; all that is shown or kept goes through it:
    errors and losses do so by themselves."""
    text = _USER.sub(lambda m: f"{m[1]}{m[2]}:{HIDDEN}@" if m[3] else f"{m[1]}{HIDDEN}@", text)
    return _PATH.sub(rf"\1{HIDDEN}", _QUERY.sub(rf"\1{HIDDEN}", text))


def is_printable(text: str) -> bool:
    """Whether it is signs and blanks on one line; of the latter there are more than Python counts: macOS and Japanese
    keyboards put them into names."""
    return all(sign.isprintable() or category(sign) == "Zs" for sign in text)


def printable(text: object, kept: str = "") -> str:
    """The text with what would move a terminal's cursor, colour or turn it as escapes; `kept` and spaces stay."""

    def shown(sign: str) -> str:
        if sign in kept or is_printable(sign):
            return sign
        return sign.encode("unicode_escape", "surrogatepass").decode()

    return "".join(map(shown, str(text)))


def counted(count: int, what: str) -> str:
    """Such as "1 face" and "2 faces" of "face"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


class FacekitError(Exception):
    """A mistake that the user can mend: its message says what, where, what was expected and got, and the remedy."""

    def __init__(self, message: object = "") -> None:
        super().__init__(masked(str(message)))


class ArgumentError(FacekitError):
    """Arguments out of their range, or that don't go together; found before any work is done."""


class Interrupted(FacekitError):
    """The user, or the system, asked for an end, and what was done so far is safe; the message says how to go on."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number  # as shells count: 130 for SIGINT, 143 for SIGTERM


@dataclass(frozen=True)
class Loss:
    """Something that a command over many left out, such as one broken picture: the rest is done all the same.

    Commands hand their losses to the caller; the command line lists them last and ends with exit code 3.
    """

    what: str  # the file, frame or face
    why: str

    @classmethod
    def of(cls, what: object, error: FacekitError) -> Loss:
        """Of the error that it came to, whose message mostly begins with what."""
        return cls(masked(str(what)), str(error).removeprefix(f"{what}: "))

    def __str__(self) -> str:
        return f"{printable(self.what)}: {self.why}"
