"""An S3 of this machine's own, by moto, that fails now and then: requests that are refused, bodies that break off.

python tools/faulty_s3.py [--port 9000] [--fail 0.1] [--truncate 0.05]    serves until it is stopped; AWS_ENDPOINT_URL
is what it prints, any key and secret do.
"""

from __future__ import annotations

import argparse
import random
import threading
from collections.abc import Callable, Iterable
from typing import Any

REFUSED = (
    b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>We made this error ourselves.</Message></Error>'
)


class FaultyS3:
    """A server in a thread; the same seed gives the same faults in the same order of requests."""

    def __init__(self, port: int = 0, fail: float = 0.0, truncate: float = 0.0, seed: int = 0) -> None:
        """fail: share of requests that are refused with 500. truncate: share of answers to GET that end half-way."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log_request(self, *args: object) -> None:
                pass

            def log(self, *args: object) -> None:
                pass

        self.fail, self.truncate = fail, truncate
        self.requests = self.refused = self.truncated = 0
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", port, self._answer, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def environment(self) -> dict[str, str]:
        """What a client's environment says."""
        return {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip

    def __enter__(self) -> FaultyS3:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            self.requests += 1
            is_refused = self._random.random() < self.fail
            is_cut = environ["REQUEST_METHOD"] == "GET" and self._random.random() < self.truncate
            self.refused += is_refused
        if is_refused:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))  # or the client's next one meets it
            start_response("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [REFUSED]
        body: Iterable[bytes] = self._app(environ, start_response)
        if not is_cut:
            return body
        data = b"".join(body)
        if len(data) > 1:
            with self._lock:
                self.truncated += 1
        return [data[: len(data) // 2]]  # Content-Length still says the whole


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--fail", type=float, default=0.1, help="share of requests that are refused")
    parser.add_argument("--truncate", type=float, default=0.05, help="share of answers that break off")
    flags = parser.parse_args()
    with FaultyS3(flags.port, flags.fail, flags.truncate) as server:
        print(f"AWS_ENDPOINT_URL={server.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
