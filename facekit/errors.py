"""The one exception that users are meant to read."""


class FacekitError(Exception):
    """A mistake that the user can mend: its message says what, where, what was expected and got, and the remedy."""
