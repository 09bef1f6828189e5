"""The page of `/`, which runs the detector in the browser of whoever visits."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse

from facekit.detector import Detector
from facekit.errors import FacekitError
from facekit.serving.refusal import Refusal, busy
from facekit.targets.onnx import OnnxBackend
from facekit.targets.reading.about import about_export
from facekit.web.page import INDEX, ISOLATION, MODEL, POLICY, TYPES, page_files
from facekit.web.runtime import FILES, cached_runtime, fetch_runtime

log = logging.getLogger(__name__)

KEPT = {"Cache-Control": "public, max-age=3600"}


@dataclass
class Site:
    """The page's files, of which the runtime's may have yet to come."""

    contents: dict[str, bytes]
    model: Path
    runtime: dict[str, Path] | None = None

    @property
    def names(self) -> frozenset[str]:
        """Of all files."""
        return frozenset((*self.contents, MODEL, *FILES))

    def answer(self, name: str) -> Response:
        """Raises Refusal for a name that is none, and while the runtime isn't there."""
        headers = {"Content-Security-Policy": POLICY, **ISOLATION}
        media_type = TYPES.get(Path(name).suffix)
        if self.runtime is None:
            self.runtime = cached_runtime()
        if self.runtime is None and name == INDEX:
            raise busy(
                "The page's runtime is being fetched. Reload in a moment; where that doesn't help, the log says why."
            )
        if name in self.contents:
            return Response(self.contents[name], media_type=media_type, headers=headers)
        path = self.model if name == MODEL else (self.runtime or {}).get(name)
        if path is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "There is no such page.")
        return FileResponse(path, media_type=media_type, headers=headers | KEPT)


def site_of(detector: Detector, model: Path | None) -> Site | None:
    """The page of a detector whose weights are an .onnx of facekit's; None, which is logged, for others' files."""
    backend = detector.backend
    if model is None or not isinstance(backend, OnnxBackend) or not backend.outputs.is_ours:
        log.info("No page at /: browsers run .onnx files of facekit's alone. Export one: facekit export --formats onnx")
        return None
    licence = backend.licence() or about_export(backend.template, backend.fixed_size_hw).licence
    return Site(page_files(backend.template, backend.fixed_size_hw, licence), model)


def fetch_runtime_meanwhile() -> None:
    """Brings the runtime into the cache, in a thread, where it isn't; says where that fails."""

    def fetch() -> None:
        try:
            fetch_runtime()
        except FacekitError as error:
            log.warning("No page at /: %s", " ".join(str(error).split()))

    if cached_runtime() is None:
        log.info("Fetching onnxruntime-web for the page at / (33 MB, once)")
        threading.Thread(target=fetch, name="facekit-fetch", daemon=True).start()


def add_site(app: FastAPI, site: Site) -> None:
    """Its routes, which are no part of the interface for programs."""

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return site.answer(INDEX)

    @app.get("/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        return site.answer(name)
