"""The way of a request of /detect from its body to its answer, and what the requests of a process share."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, TypeVar

import numpy as np
from fastapi import Request, Response
from numpy.typing import NDArray

from facekit.base.nearest import did_you_mean
from facekit.detector import Detector
from facekit.errors import FacekitError, printable
from facekit.pictures.cover import Method
from facekit.pictures.headers import read_header
from facekit.pictures.read import KINDS, decode_picture
from facekit.serving.answers import Output, as_json, as_picture, check_room, choose
from facekit.serving.body import MOST_SHOWN, Body, Held
from facekit.serving.budget import Budget
from facekit.serving.looker import Looker
from facekit.serving.measures import Measures
from facekit.serving.refusal import Refusal, busy
from facekit.serving.settings import MAX_DECODED_BYTES, MAX_HELD_BYTES, Settings
from facekit.structures import Detections

DECODERS = 2  # threads that decode, draw and encode, which OpenCV does without Python's lock
BGR_BYTES = 3
PARAMETERS = ("output", "threshold", "method")  # of /detect

T = TypeVar("T")


class Service:
    """What the requests of a process share."""

    def __init__(self, detector: Detector, settings: Settings) -> None:
        self.detector = detector
        self.settings = settings
        self.measures = Measures()
        self.looker = Looker(detector, settings.batch_size, self.measures.batch.observe)
        self.workers = ThreadPoolExecutor(DECODERS, thread_name_prefix="facekit-decoder")
        self.bodies, self.decoded = Budget(MAX_HELD_BYTES), Budget(MAX_DECODED_BYTES)
        self.in_work = 0

    def stop(self) -> None:
        """Once no request is left."""
        self.looker.stop()
        self.workers.shutdown()

    def check_token(self, request: Request) -> None:
        """Raises Refusal for a request without the right one, where there is one."""
        if not self.settings.allows(request.headers.get("authorization")):
            raise Refusal(HTTPStatus.UNAUTHORIZED, "No token, or a wrong one.")

    async def answer(
        self, request: Request, output: Output | None, threshold: float | None, method: Method
    ) -> Response:
        """The way of a request of /detect. Raises Refusal."""
        kind, media_type = choose(request.headers.get("accept", ""), output)
        if threshold is None:
            threshold = self.settings.least_score(kind == "anonymized")
        held = Held(self.bodies)
        body = Body(request, self.settings, held)
        try:
            self.check_token(request)
            _check_parameters(request, kind)
            self._check_place()  # before a body is received for nothing
            data = await body.picture()
            self._check_place()
        except Refusal as refusal:
            held.release()
            if refusal.status != HTTPStatus.REQUEST_TIMEOUT:
                await body.drain()
            refusal.ends_connection = not body.is_whole
            raise
        except BaseException:
            held.release()
            raise
        given_up = asyncio.Event()
        self._take_place()
        work = asyncio.ensure_future(self._work(data, kind, media_type, threshold, method, given_up))
        # What has begun is brought to its end, for its memory and a core are in use until then, and its place with
        # them; the client waits no longer.
        work.add_done_callback(functools.partial(self._end, held))
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                content, faces, image_shape = await asyncio.shield(work)
        except TimeoutError:
            raise busy(f"There was no answer within {self.settings.timeout_s:g} seconds. Try again.") from None
        finally:
            given_up.set()
        self.measures.faces.inc(len(faces))
        self.measures.pixels.inc(image_shape[0] * image_shape[1])
        request.state.facts = {
            "bytes": len(data), "width": image_shape[1], "height": image_shape[0], "faces": len(faces), "output": kind
        }  # fmt: skip
        return Response(content, media_type=media_type)

    def note(self, path: str, status: int, seconds: float) -> None:
        """What /metrics tells of a request."""
        self.measures.requests.labels(path, str(status)).inc()
        if path == "/detect" and status == HTTPStatus.OK:
            self.measures.seconds.observe(seconds)

    def _check_place(self) -> None:
        if self.in_work >= self.settings.queue:
            raise busy()

    def _take_place(self) -> None:
        """One of the places of the queue; whose body is still arriving has none, or slow clients would fill it."""
        self.in_work += 1
        self.measures.in_work.inc()

    def _end(self, held: Held, work: asyncio.Future[Any]) -> None:
        self.in_work -= 1
        self.measures.in_work.dec()
        held.release()
        if not work.cancelled():
            work.exception()  # seen: it may be that nobody waits any more

    async def _work(
        self, data: bytes, kind: Output, media_type: str, threshold: float, method: Method, given_up: asyncio.Event
    ) -> tuple[bytes, Detections, tuple[int, ...]]:
        """Cancelled before its next step once it is given up."""
        size = self._decoded_bytes(data)
        await self.decoded.take(size)
        try:
            if given_up.is_set():
                raise asyncio.CancelledError
            image_bgr = await self._in_worker(given_up, self._decode, data, kind == "anonymized")
            check_room(media_type, image_bgr.shape)
            faces = (await self._look(image_bgr, given_up)).above(threshold)
            if kind == "json":
                return as_json(faces, image_bgr), faces, image_bgr.shape
            content = await self._in_worker(given_up, as_picture, faces, image_bgr, kind, media_type, method)
            return content, faces, image_bgr.shape
        finally:
            self.decoded.give_back(size)

    async def _in_worker(self, given_up: asyncio.Event, function: Callable[..., T], *arguments: Any) -> T:
        """What the function gives, in a thread of ours. Raises CancelledError for what is given up before its turn."""

        def work() -> T:
            if given_up.is_set():
                raise asyncio.CancelledError
            return function(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self.workers, work)

    async def _look(self, image_bgr: NDArray[np.uint8], given_up: asyncio.Event) -> Detections:
        try:
            return await self.looker.look(image_bgr, given_up)
        except FacekitError as error:  # which may name the weights' place: nothing for clients
            height, width = image_bgr.shape[:2]
            reason = f"{width}x{height} pixels: this server's detector can't look at a picture of that size."
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, reason) from error

    def _decoded_bytes(self, data: bytes) -> int:
        """By the picture's header, before anything is decoded. Raises Refusal for what is no picture, or too large."""
        header = read_header(data)
        if header is None:
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Not a picture of a kind that is read ({KINDS}).")
        if header.pixels is None:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"A damaged {header.kind}: its header says no size.")
        if header.pixels > self.settings.max_pixels:
            width, height = header.size_wh or (0, 0)
            reason = f"{width}x{height} pixels, over the limit of {self.settings.max_pixels}."
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        return BGR_BYTES * header.pixels

    def _decode(self, data: bytes, on_white: bool) -> NDArray[np.uint8]:
        try:
            return decode_picture("picture", data, max_pixels=self.settings.max_pixels, on_white=on_white)
        except FacekitError as error:
            reason = str(error).removeprefix("picture: ")
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, reason[:1].upper() + reason[1:]) from error


def _check_parameters(request: Request, kind: Output) -> None:
    """Raises Refusal for parameters that would be passed over: with `metod=solid` faces would be covered otherwise than
    was asked, with `method=solid` alone not at all."""
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in PARAMETERS:
            reason = f"`{printable(name[:MOST_SHOWN])}`: there is no such parameter.{did_you_mean(name, PARAMETERS)}"
            known = f" Known: {', '.join(PARAMETERS)}."
            raise Refusal(HTTPStatus.BAD_REQUEST, reason + known, logged="An unknown parameter.")
        if given.count(name) > 1:
            reason = f"`{name}`: stands {given.count(name)} times in the query. Give it once."
            raise Refusal(HTTPStatus.BAD_REQUEST, reason, logged="A parameter twice.")
    if "method" in given and kind != "anonymized":
        reason = f"`method` says how faces are covered, and {kind} covers none: add output=anonymized, or leave it out."
        raise Refusal(HTTPStatus.BAD_REQUEST, reason, logged="A method to cover faces without output=anonymized.")
