"""A picture's bytes out of a request: raw, or a file in a form; within bytes and seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from http import HTTPStatus

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from facekit.errors import printable
from facekit.serving.budget import Budget
from facekit.serving.refusal import Refusal, busy
from facekit.serving.settings import Settings

FORM = "multipart/form-data"
FIELD = "picture"  # of the form; a form with one file may call it anything
MAX_FIELDS = 8
MOST_SHOWN = 80  # characters of a name that a request gave
FORM_ROOM_BYTES = 64 << 10  # beside the file
DRAIN_BYTES, DRAIN_S = 4 << 20, 2.0  # of a refused body


class Held:
    """Bytes of bodies in memory, over all requests."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.bytes = 0

    def add(self, amount: int) -> None:
        """Raises Refusal where all requests together hold too much: waiting would let slow ones block all."""
        if self.budget.held and self.budget.held + amount > self.budget.total:
            raise busy("Too many bytes are being received. Try again.")
        self.budget.held += amount
        self.bytes += amount

    def release(self) -> None:
        self.budget.held -= self.bytes
        self.bytes = 0


class Body:
    """A request's body, which may not be what its head says."""

    def __init__(self, request: Request, settings: Settings, held: Held) -> None:
        self.request, self.settings, self.held = request, settings, held
        kind = request.headers.get("content-type", "").partition(";")[0]
        self.is_form = kind.strip().lower() == FORM
        self.limit = settings.max_bytes + (FORM_ROOM_BYTES if self.is_form else 0)
        self.is_whole = False  # whether its end was seen

    async def picture(self) -> bytes:
        """Raises Refusal for a body that is too large (said or sent), too slow, no form that can be read, or empty."""
        said = self.request.headers.get("content-length", "")
        if said.isdigit() and int(said) > self.limit:
            raise _too_large(self.settings)
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                data = await (self._from_form() if self.is_form else self._joined())
        except TimeoutError:
            reason = f"The body did not arrive within {self.settings.timeout_s:g} seconds."
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, reason) from None
        except ClientDisconnect:
            raise Refusal(HTTPStatus.BAD_REQUEST, "The client left before the body was there.") from None
        if not data:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "The body is empty: expected a picture's bytes.")
        if len(data) > self.settings.max_bytes:
            raise _too_large(self.settings)
        return data

    async def drain(self) -> None:
        """Listens to a bounded rest of what is refused: a client that still sends when the connection ends may never
        see the answer."""
        seen = 0
        with suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(DRAIN_S):
                async for chunk in self._chunks():
                    seen += len(chunk)
                    if seen > DRAIN_BYTES:
                        return

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        while not self.is_whole:
            message = await self.request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self.is_whole = not message.get("more_body", False)
            if chunk := message.get("body", b""):
                yield chunk

    async def _limited(self) -> AsyncGenerator[bytes, None]:
        got = 0
        async for chunk in self._chunks():
            got += len(chunk)
            if got > self.limit:
                raise _too_large(self.settings)
            self.held.add(len(chunk))
            yield chunk

    async def _joined(self) -> bytes:
        return b"".join([chunk async for chunk in self._limited()])

    async def _from_form(self) -> bytes:
        """The form's only file. Raises Refusal for other fields, too: who sends parameters so must not get an answer
        without them."""
        parser = MultiPartParser(
            self.request.headers, self._limited(), max_files=1, max_fields=MAX_FIELDS, max_part_size=FORM_ROOM_BYTES
        )
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError, ValueError, UnicodeError) as error:
            why = getattr(error, "message", error)
            reason = f"The form can't be read ({why}): expected one file, in the field {FIELD}."
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, reason) from error
        try:
            files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            if len(files) != 1:
                reason = f"The form holds no file: expected one, in the field {FIELD}."
                raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, reason)
            if others := [name for name, value in form.multi_items() if not isinstance(value, UploadFile)]:
                name = printable(others[0][:MOST_SHOWN])
                reason = f"`{name}`: the form holds its file alone. Parameters go into the query: /detect?output=json."
                raise Refusal(HTTPStatus.BAD_REQUEST, reason, logged="A form with more than its file.")
            return await files[0].read()
        finally:
            await form.close()


def _too_large(settings: Settings) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is over the limit of {settings.max_bytes} bytes.")
