from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from facekit.commands.serve import TOKEN, read_token
from facekit.errors import FacekitError
from facekit.serving.settings import Settings
from tests.serving.conftest import Running

SECRET = "correct-horse-battery"


def test_what_needs_it(start: Callable[..., Running], portrait: bytes) -> None:
    client = start(token=SECRET).client
    for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {SECRET}"},
                  {"Authorization": SECRET}, {"Authorization": f"Bearer {SECRET}x"}):  # fmt: skip
        for answer in (client.post("/detect", content=portrait, headers=wrong), client.get("/metrics", headers=wrong)):
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert SECRET not in answer.text
    right = {"Authorization": f"Bearer {SECRET}"}
    assert client.post("/detect", content=portrait, headers=right).status_code == 200
    assert client.get("/metrics", headers=right).status_code == 200
    assert client.get("/healthz").status_code == 200
    described = client.get("/openapi.json").json()
    assert described["paths"]["/detect"]["post"]["security"] == [{"token": []}]
    assert "FACEKIT_TOKEN" in client.get("/docs").text and SECRET not in client.get("/docs").text


def test_settings_do_not_show_it() -> None:
    assert SECRET not in repr(Settings(token=SECRET))


def test_of_a_file_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN, "of-the-environment")
    assert read_token(None) == "of-the-environment"
    (tmp_path / "token").write_text(f"{SECRET}\n")
    assert read_token(tmp_path / "token") == SECRET


@pytest.mark.parametrize("text", ["", "short", "with a space in it", "ümlaut-is-no-header", "two\nlines-of-a-token"])
def test_tokens_that_keep_nobody_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(FacekitError) as caught:
        read_token(tmp_path / "token")
    assert not text or text not in str(caught.value)
