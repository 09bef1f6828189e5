"""The exceptions that users are meant to read, and what a command over many had to leave out."""

from __future__ import annotations

from dataclasses import dataclass


class FacekitError(Exception):
    """A mistake that the user can mend: its message says what, where, what was expected and got, and the remedy."""


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

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"
