from __future__ import annotations

import pytest

from facekit.errors import FacekitError, Loss, masked, printable


@pytest.mark.parametrize(("address", "shown"), [
    ("rtsp://admin:geheim@cam.local:554/s", "rtsp://admin:***@cam.local:554/s"),
    ("rtsp://admin:ge/he@im#@10.0.0.1/s", "rtsp://admin:***@10.0.0.1/s"),
    ("rtsp://:geheim@cam/s", "rtsp://:***@cam/s"),
    ("https://geheim@host/x", "https://***@host/x"),
    ("see rtsp://a:geheim@b, and HTTP://c:geheim@d/", "see rtsp://a:***@b, and HTTP://c:***@d/"),
    ("http://host/x?user=a&token=geheim&n=1", "http://host/x?user=a&token=***&n=1"),
    ("http://host/x?X-Amz-Signature=geheim", "http://host/x?X-Amz-Signature=***"),
    ("http://host/login?api_key=geheim#top", "http://host/login?api_key=***#top"),
    ("https:/a:geheim@host/x", "https:/a:***@host/x"),
    ("rtsp://10.0.0.1/user=admin_password=geheim_channel=1_stream=0.sdp", "rtsp://10.0.0.1/user=admin_password=***"),
    ("rtsp://10.0.0.1/user=a&password=geheim&channel=1", "rtsp://10.0.0.1/user=a&password=***&channel=1"),
    ("https://host/x#token=geheim", "https://host/x#token=***"),
    ("https://host/x?jwt=geheim&session_id=geheim", "https://host/x?jwt=***&session_id=***"),
    ("https://host/x?bearer=geheim;access=geheim&sessionid=geheim", "https://host/x?bearer=***;access=***&sessionid=***"),
])  # fmt: skip
def test_secrets_are_masked(address: str, shown: str) -> None:
    assert masked(address) == shown
    assert str(FacekitError(f"--video {address}: can't open it")) == f"--video {shown}: can't open it"
    assert "geheim" not in str(Loss.of(address, FacekitError(f"{address}: gone")))
    assert "geheim" not in repr(FacekitError(address))


@pytest.mark.parametrize(
    "text",
    [
        "me@host.org",
        "C:/a@b.jpg",
        "http://host:8080/a",
        "rtsp://[::1]:554/x",
        "a?size=3",
        "http://host/x?codec=h264&code=5&accessible=1",
        "http://host/passenger=1/a.jpg",
        "s3://host/pass1=2/a.jpg",
        "/runs/lr=1_pass=2/a.jpg",
        "",
    ],
)
def test_the_rest_stays(text: str) -> None:
    assert masked(text) == text


def test_names_can_not_steer_a_terminal() -> None:
    assert printable("a\nb\x1b[31m\u202e\u202f\xe4.jpg") == "a\\nb\\x1b[31m\\u202e\u202f\xe4.jpg"
    assert printable("a\n\x1b", kept="\n") == "a\n\\x1b"
    assert str(Loss("a\nb.jpg", "gone")) == "a\\nb.jpg: gone"


def test_a_loss_does_not_name_its_file_twice() -> None:
    assert str(Loss.of("a.jpg", FacekitError("a.jpg: not a picture"))) == "a.jpg: not a picture"
