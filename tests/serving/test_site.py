"""The page of `/`; what it does in a browser: tests/web."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from facekit.detector import BUNDLED_WEIGHTS
from facekit.serving import site as module
from facekit.serving.site import site_of
from facekit.web.page import MODEL, SITE
from tests.serving.conftest import Running


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    found = {}
    for name in module.FILES:
        found[name] = tmp_path / name
        found[name].write_bytes(b"of the runtime")
    monkeypatch.setattr(module, "cached_runtime", lambda: found)
    return found


def test_all_files_of_the_page_and_no_others(start: Callable[..., Running], runtime: dict[str, Path]) -> None:
    client = start(page=True, model=BUNDLED_WEIGHTS).client
    index = client.get("/")
    assert index.headers["content-type"].startswith("text/html")
    assert "own weights: Apache-2.0" in index.text and "published weights" not in index.text
    policy = index.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "http" not in policy
    assert index.headers["cross-origin-opener-policy"] == "same-origin"
    assert index.headers["cross-origin-embedder-policy"] == "require-corp"
    for path in SITE.iterdir():
        assert client.get(f"/{path.name}").status_code == 200, path.name
    assert client.get(f"/{MODEL}").content == BUNDLED_WEIGHTS.read_bytes()
    for name in runtime:
        assert client.get(f"/{name}").content == b"of the runtime"
    assert client.get("/page.js").headers["content-type"].startswith("text/javascript")
    for wrong in ("/nothing.js", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/secret", "/site/page.js", "/runtime.py"):
        assert client.get(wrong).status_code == 404, wrong


def test_while_the_runtime_is_not_there(start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cached_runtime", lambda: None)
    client = start(page=True, model=BUNDLED_WEIGHTS).client
    answer = client.get("/")
    assert answer.status_code == 503 and "being fetched" in answer.json()["error"]
    assert client.get("/healthz").status_code == 200


def test_none_without_an_onnx_file(running: Running) -> None:
    assert site_of(running.service.detector, None) is None
    answer = running.client.get("/")  # a server without a page leads to its manual
    assert answer.status_code == 307 and answer.headers["location"] == "/docs"
