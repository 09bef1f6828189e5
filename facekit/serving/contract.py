"""What clients may rely on: the shapes of answers, and what OpenAPI says of requests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from facekit.serving.answers import PICTURE_TYPES

PICTURES_TAKEN = ("image/jpeg", "image/png", "image/webp", "image/gif")  # in the description; others are taken too


class FaceAnswer(BaseModel):
    """One face, in pixels of the picture as a viewer shows it."""

    model_config = ConfigDict(extra="forbid")
    box_xyxy: list[float] = Field(min_length=4, max_length=4, description="left, top, right, bottom")
    score: float = Field(ge=0, le=1)
    landmarks_xy: dict[str, list[float]] | None = Field(
        default=None, description="left_eye, right_eye, nose, left_mouth, right_mouth, as seen in the picture: x, y"
    )


class DetectAnswer(BaseModel):
    """The faces of a picture, best score first."""

    model_config = ConfigDict(extra="forbid")
    schema_version: int = Field(alias="schema")
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    faces: list[FaceAnswer]


class ErrorAnswer(BaseModel):
    """Why there is no answer."""

    model_config = ConfigDict(extra="forbid")
    error: str


class HealthAnswer(BaseModel):
    """Whether detections are answered, and by what."""

    model_config = ConfigDict(extra="forbid")
    status: str
    facekit: str
    model: str
    protocol: str


_RETRY = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}
_ERRORS: dict[int, str] = {
    400: "No request that can be read, an unknown parameter, a form with more than its file.",
    401: "No token, or a wrong one.",
    408: "The body took too long.",
    413: "Too many bytes, or too many pixels.",
    415: "No picture of a kind that is read.",
    422: "A damaged picture, an empty body, a wrong parameter, a picture too long for the kind asked for.",
    500: "A fault of the server's.",
    503: "Busy: try again after Retry-After seconds.",
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        found[status] = {"model": ErrorAnswer, "description": _ERRORS[status]}
        if status == 503:
            found[status]["headers"] = _RETRY
    return found


def detect_responses() -> dict[int | str, dict[str, Any]]:
    """Of POST /detect."""
    picture = {"schema": {"type": "string", "format": "binary"}}
    done = {
        "model": DetectAnswer,
        "description": "The faces, or the picture with its faces drawn or covered.",
        "content": dict.fromkeys(PICTURE_TYPES, picture),
    }
    return {200: done, **error_responses(*_ERRORS)}


def detect_request() -> dict[str, Any]:
    """The request body of POST /detect, which FastAPI can't read off a function that streams it.

    A form is told of in words alone: OpenAPI can't say that its file is a picture, and whoever generates requests from
    the description would send any bytes."""
    raw = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
    return {"requestBody": {"required": True, "content": dict.fromkeys(PICTURES_TAKEN, raw)}}
