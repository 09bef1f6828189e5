"""Requests that are not answered, and why."""

from __future__ import annotations

from http import HTTPStatus

from facekit.serving.settings import RETRY_AFTER_S


class Refusal(Exception):
    """Ends a request with a status and one line of reason."""

    def __init__(self, status: HTTPStatus, reason: str, logged: str | None = None) -> None:
        """logged: what the log says instead, where the reason quotes what only its client may know."""
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.logged = logged or reason
        self.ends_connection = False  # what the client has still to send is not listened to

    @property
    def headers(self) -> dict[str, str]:
        headers = {}
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        if self.ends_connection:
            headers["Connection"] = "close"
        return headers


def busy(reason: str = "All places are taken. Try again.") -> Refusal:
    """The server can't take the request on now."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason)
