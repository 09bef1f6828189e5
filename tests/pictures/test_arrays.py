from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekit.errors import ArgumentError, FacekitError
from facekit.pictures.arrays import as_bgr

COLOURS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10


class TestTaken:
    def test_bgr_as_it_is(self) -> None:
        assert as_bgr(COLOURS) is COLOURS or np.shares_memory(as_bgr(COLOURS), COLOURS)

    def test_path_and_text(self, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "a.png"), COLOURS)
        (entry,) = os.scandir(tmp_path)  # no Path, but as good
        for name in (tmp_path / "a.png", str(tmp_path / "a.png"), entry):
            np.testing.assert_array_equal(as_bgr(name), COLOURS)

    def test_grey(self) -> None:
        grey = COLOURS[..., 0]
        for picture in (grey, grey[..., None]):
            np.testing.assert_array_equal(as_bgr(picture), np.repeat(grey[..., None], 3, axis=2))

    def test_alpha_is_dropped(self) -> None:
        np.testing.assert_array_equal(as_bgr(np.dstack([COLOURS, np.zeros((2, 4), np.uint8)])), COLOURS)

    def test_sixteen_bits(self) -> None:
        for kind in ("<u2", ">u2"):
            np.testing.assert_array_equal(as_bgr((COLOURS.astype(np.uint16) * 257).astype(kind)), COLOURS)

    def test_twelve_bits_in_sixteen_are_said(self) -> None:
        with pytest.warns(UserWarning, match=r"highest value is \d+: its range is taken for 0\.\.65535"):
            as_bgr(COLOURS.astype(np.uint16) * 15)

    def test_views_that_are_not_contiguous(self) -> None:
        np.testing.assert_array_equal(as_bgr(COLOURS[:, ::-1]), COLOURS[:, ::-1])


class TestRefused:
    @pytest.mark.parametrize("picture", [None, 3, [[1, 2]], b"jpeg", object()])
    def test_what_is_no_picture(self, picture: Any) -> None:
        with pytest.raises(TypeError, match=f"uint8, BGR, 0..255.*got {type(picture).__name__}"):
            as_bgr(picture)

    def test_none_is_cv2s_way_to_say_no(self) -> None:
        with pytest.raises(TypeError, match=r"cv2\.imread gives None for a file that it can't read"):
            as_bgr(None)  # type: ignore[arg-type]

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.bool_, np.complex64])
    def test_other_types_say_their_range(self, dtype: type) -> None:
        with pytest.raises(TypeError, match=f"got {np.dtype(dtype)} from .* to .*Bring it to 0..255"):
            as_bgr((COLOURS / 255).astype(dtype))

    @pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3), (0, 0), (4,), (2, 4, 2), (2, 4, 5), (1, 2, 4, 3), ()])
    def test_other_shapes(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"got uint8 of shape"):
            as_bgr(np.zeros(shape, np.uint8))

    def test_channels_first(self) -> None:
        with pytest.raises(ValueError, match="Channels come last"):
            as_bgr(np.zeros((3, 40, 50), np.uint8))

    def test_a_path_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match=r"none\.jpg"):
            as_bgr(tmp_path / "none.jpg")


@pytest.mark.parametrize("kind", [str, Path])
def test_addresses_are_not_read(kind: type) -> None:
    with pytest.raises(ArgumentError, match=r"addresses are not read here, but by facekit\.detect") as caught:
        as_bgr(kind("http://user:geheim@127.0.0.1:1/x.jpg"))
    assert "geheim" not in str(caught.value)
