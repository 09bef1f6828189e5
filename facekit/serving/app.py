"""The application: its routes, and how all errors look."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from starlette.exceptions import HTTPException

from facekit import __version__
from facekit.detector import Detector
from facekit.pictures.cover import Cover, Method
from facekit.serving.answers import Output
from facekit.serving.contract import HealthAnswer, detect_request, detect_responses, error_responses
from facekit.serving.manual import manual_page
from facekit.serving.measures import CONTENT_TYPE_LATEST
from facekit.serving.refusal import Refusal
from facekit.serving.service import Service
from facekit.serving.settings import Settings
from facekit.serving.site import add_site, site_of
from facekit.serving.watch import Watch

log = logging.getLogger(__name__)

LEAST_SCORE = "least score; else the server's, which is 0.5, and 0.3 of output=anonymized, where it was told none"
Score = Annotated[float, Field(ge=0, le=1)] | SkipJsonSchema[None]  # no text of a query is null
SUMMARY = "Faces in pictures. See /docs."
PATHS = frozenset({"/", "/detect", "/healthz", "/metrics", "/docs", "/openapi.json"})


def create_app(detector: Detector, settings: Settings) -> FastAPI:
    """An ASGI application around an open detector, for uvicorn or any other server."""
    service = Service(detector, settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        log.info("Serving %s: %s", detector.template.name, detector.protocol())
        yield
        await asyncio.get_running_loop().run_in_executor(None, service.stop)
        log.info("Stopped: all that was begun is answered.")

    app = FastAPI(
        title="facekit", summary=SUMMARY, version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan,
        separate_input_output_schemas=False,
        redirect_slashes=False,  # which would lead token and picture to an http address, where TLS ends at a proxy
    )  # fmt: skip
    app.state.service = service
    _handle_errors(app)
    site = site_of(detector, settings.model) if settings.page else None
    app.add_middleware(Watch, paths=PATHS if site is None else PATHS | site.names, note=service.note)
    _add_routes(app, service)
    if site is not None:
        add_site(app, site)
    else:
        app.add_api_route("/", lambda: RedirectResponse("/docs"), include_in_schema=False)
    if settings.token is not None:
        _describe_token(app)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    settings = service.settings

    @app.post("/detect", responses=detect_responses(), openapi_extra=detect_request(), tags=["detect"])
    async def detect(
        request: Request,
        output: Annotated[Output | None, Query(description="else by the header Accept: JSON, or image/*")] = None,
        threshold: Annotated[Score, Query(description=LEAST_SCORE)] = settings.threshold,
        method: Annotated[Method, Query(description="of output=anonymized")] = Cover.method,
    ) -> Response:
        """Finds the faces of a picture: the body's bytes, or, of multipart/form-data, the one file of the form."""
        return await service.answer(request, output, threshold, method)

    @app.get("/healthz", response_model=HealthAnswer, responses=error_responses(503), tags=["operation"])
    async def healthz() -> HealthAnswer:
        """Whether detections are answered. Needs no token."""
        if not service.looker.is_alive:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The detector has ended: start the server again.")
        template = service.detector.template
        return HealthAnswer(status="ok", facekit=__version__, model=template.name, protocol=service.detector.protocol())

    @app.head("/healthz", include_in_schema=False)
    async def healthz_head() -> Response:
        await healthz()
        return Response()

    metrics_answer: dict[int | str, Any] = {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Figures."}
    }

    @app.get(
        "/metrics", response_class=Response, responses={**metrics_answer, **error_responses(401)}, tags=["operation"]
    )
    async def metrics(request: Request) -> Response:
        """Figures for Prometheus."""
        service.check_token(request)
        return Response(service.measures.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(manual_page(app.openapi(), settings), media_type="text/html")


def _handle_errors(app: FastAPI) -> None:
    """All errors have one shape."""

    def say(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": reason}, status, headers)

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        request.state.reason = refusal.logged
        return say(refusal.status, refusal.reason, refusal.headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        reasons: dict[str, str] = {}
        for part in error.errors():  # of a union's kinds the first: the others are inner words
            reasons.setdefault(str(part["loc"][1]), part["msg"])
        return say(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(f"{name}: {why}" for name, why in reasons.items()))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return say(error.status_code, str(error.detail), dict(error.headers or {}))


def _describe_token(app: FastAPI) -> None:
    """Tells OpenAPI's readers which routes want a token."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        schema = plain()
        schema.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path in ("/detect", "/metrics"):
            for operation in schema["paths"][path].values():
                operation["security"] = [{"token": []}]
        return schema

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's documentation has it
