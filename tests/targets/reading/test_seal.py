"""The digest behind a file tells each kind of damage, and leaves others' files alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekit.errors import FacekitError
from facekit.targets.reading.seal import check_seal, sealed

CONTENT = bytes(range(256)) + b"facekit {}" + bytes(100)
LIMIT = 1000


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seal") / "model.mnn"


def test_what_was_written_passes_and_is_in_front(file: Path) -> None:
    file.write_bytes(sealed(CONTENT))
    check_seal(file, LIMIT)
    assert file.read_bytes().startswith(CONTENT)


@pytest.mark.parametrize("content", [b"", b"of another maker", bytes(500)])
def test_others_files_pass(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    check_seal(file, LIMIT)


@given(place=st.integers(0, len(sealed(CONTENT)) - 1), bit=st.integers(0, 7))
def test_any_bit_is_missed(file: Path, place: int, bit: int) -> None:
    damaged = bytearray(sealed(CONTENT))
    damaged[place] ^= 1 << bit
    file.write_bytes(damaged)
    with pytest.raises(FacekitError, match=r"damaged|cut off"):
        check_seal(file, LIMIT)


@given(kept=st.integers(CONTENT.index(b"facekit") + 7, len(sealed(CONTENT)) - 1))
def test_an_end_that_is_missing(file: Path, kept: int) -> None:
    file.write_bytes(sealed(CONTENT)[:kept])
    with pytest.raises(FacekitError, match=r"model\.mnn: is cut off: .*Bring it again"):
        check_seal(file, LIMIT)


def test_a_file_over_the_limit(file: Path) -> None:
    file.write_bytes(bytes(LIMIT + 1))
    with pytest.raises(FacekitError, match="limit of 1000"):
        check_seal(file, LIMIT)
