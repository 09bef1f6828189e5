"""The exceptions that users are meant to read."""


class FacekitError(Exception):
    """A mistake that the user can mend: its message says what, where, what was expected and got, and the remedy."""


class Interrupted(FacekitError):
    """The user, or the system, asked for an end, and what was done so far is safe; the message says how to go on."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number  # as shells count: 130 for SIGINT, 143 for SIGTERM
