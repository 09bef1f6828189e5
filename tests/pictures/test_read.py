from __future__ import annotations

import struct
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from facekit.errors import FacekitError
from facekit.pictures import read as pictures
from facekit.pictures.read import decode_picture, is_damaged, lacks_pixels, picture_size, read_picture

WIDTH, HEIGHT = 48, 32
ORIENTATION, ROTATE_90 = 0x0112, 6  # the viewer turns the stored picture clockwise
REMEDY = "Mend the file or leave it out"


def scene() -> Image.Image:
    """Noise with a red left half: compresses badly and shows which way it was turned."""
    pixels = np.random.default_rng(0).integers(0, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[:, : WIDTH // 2, 0] = 255
    return Image.fromarray(pixels)


def jpeg(**options: object) -> bytes:
    buffer = BytesIO()
    scene().save(buffer, "JPEG", quality=95, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def write(folder: Path, data: bytes, name: str = "a.jpg") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def rotated(folder: Path) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATE_90
    return write(folder, jpeg(exif=exif))


def with_thumbnail(data: bytes) -> bytes:
    """The JPEG with a whole small JPEG in an APP1 segment, as cameras put it there."""
    buffer = BytesIO()
    scene().resize((12, 8)).save(buffer, "JPEG")
    payload = b"Exif\0\0" + buffer.getvalue()
    return data[:2] + b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload + data[2:]


def complaint(path: Path, size_wh: tuple[int, int] | None = None) -> str:
    with pytest.raises(FacekitError) as caught:
        read_picture(path, size_wh)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


class TestGood:
    def test_jpeg_is_bgr(self, tmp_path: Path) -> None:
        image_bgr = read_picture(write(tmp_path, jpeg()))
        assert image_bgr.shape == (HEIGHT, WIDTH, 3)
        assert image_bgr.dtype == np.uint8
        assert image_bgr[:, : WIDTH // 2, 2].mean() > 200 > image_bgr[:, : WIDTH // 2, 0].mean()

    def test_size_as_labelled(self, tmp_path: Path) -> None:
        assert read_picture(write(tmp_path, jpeg()), (WIDTH, HEIGHT)).shape == (HEIGHT, WIDTH, 3)

    @pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1}])
    def test_kinds_of_jpeg(self, tmp_path: Path, options: dict[str, object]) -> None:
        assert read_picture(write(tmp_path, jpeg(**options))).shape == (HEIGHT, WIDTH, 3)

    def test_bytes_after_the_end(self, tmp_path: Path) -> None:
        """Phones append a film to the picture."""
        assert read_picture(write(tmp_path, jpeg() + bytes(200_000))).shape == (HEIGHT, WIDTH, 3)

    def test_thumbnail(self, tmp_path: Path) -> None:
        assert read_picture(write(tmp_path, with_thumbnail(jpeg()))).shape == (HEIGHT, WIDTH, 3)

    @pytest.mark.parametrize("mode", ["L", "RGBA", "I;16", "P"])
    def test_other_png_become_bgr(self, tmp_path: Path, mode: str) -> None:
        Image.new(mode, (WIDTH, HEIGHT)).save(tmp_path / "a.png")
        image_bgr = read_picture(tmp_path / "a.png")
        assert (image_bgr.shape, image_bgr.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)


class TestExif:
    def test_turned_without_a_labelled_size(self, tmp_path: Path) -> None:
        image_bgr = read_picture(rotated(tmp_path))
        assert image_bgr.shape == (WIDTH, HEIGHT, 3)
        assert image_bgr[: WIDTH // 2, :, 2].mean() > 200  # red, once left, is on top

    def test_turned_where_labelled_so(self, tmp_path: Path) -> None:
        assert read_picture(rotated(tmp_path), (HEIGHT, WIDTH)).shape == (WIDTH, HEIGHT, 3)

    def test_unturned_where_labelled_so(self, tmp_path: Path) -> None:
        image_bgr = read_picture(rotated(tmp_path), (WIDTH, HEIGHT))
        assert image_bgr.shape == (HEIGHT, WIDTH, 3)
        assert image_bgr[:, : WIDTH // 2, 2].mean() > 200

    def test_neither(self, tmp_path: Path) -> None:
        assert "the labels say 50x32 pixels" in complaint(rotated(tmp_path), (50, 32))


class TestBroken:
    def test_empty(self, tmp_path: Path) -> None:
        text = complaint(write(tmp_path, b""))
        assert "not a picture" in text
        assert REMEDY in text

    def test_missing(self, tmp_path: Path) -> None:
        assert "no such file" in complaint(tmp_path / "none.jpg")

    def test_folder(self, tmp_path: Path) -> None:
        assert "is a folder" in complaint(tmp_path)

    @pytest.mark.parametrize("data", [b"this is text", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", bytes(1000)])
    def test_no_picture(self, tmp_path: Path, data: bytes) -> None:
        assert REMEDY in complaint(write(tmp_path, data))

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_floats(self, tmp_path: Path, dtype: str) -> None:
        path = tmp_path / "a.tiff"
        assert cv2.imwrite(str(path), np.random.default_rng(0).random((HEIGHT, WIDTH, 3)).astype(dtype))
        text = complaint(path)
        assert f"a TIFF of {dtype} pixels" in text and "8 or 16 bits" in text and "damaged" not in text
        path.write_bytes(path.read_bytes()[:-2000])
        assert REMEDY in complaint(path)

    @pytest.mark.parametrize("fraction", [0.02, 0.3, 0.6, 0.99])
    @pytest.mark.parametrize("progressive", [False, True])
    def test_cut_off_jpeg(self, tmp_path: Path, fraction: float, progressive: bool) -> None:
        data = jpeg(progressive=progressive)
        text = complaint(write(tmp_path, data[: int(len(data) * fraction)]))
        assert "cut off" in text
        assert REMEDY in text

    def test_cut_off_jpeg_with_a_whole_thumbnail(self, tmp_path: Path) -> None:
        data = with_thumbnail(jpeg())
        assert "cut off" in complaint(write(tmp_path, data[:-300]))

    @pytest.mark.parametrize("suffix", ["png", "bmp", "webp"])
    def test_cut_off_others(self, tmp_path: Path, suffix: str) -> None:
        buffer = BytesIO()
        scene().save(buffer, suffix)
        data = buffer.getvalue()
        assert REMEDY in complaint(write(tmp_path, data[: len(data) // 2], f"a.{suffix}"))

    @pytest.mark.parametrize(
        "options", [{}, {"progressive": True}, {"optimize": True}, {"subsampling": 0}, {"restart_marker_rows": 1},
                    {"progressive": True, "restart_marker_blocks": 3}, {"comment": b"\xff\x07"}],
    )  # fmt: skip
    def test_damaged_jpeg(self, options: dict[str, object]) -> None:
        data = jpeg(**options)
        assert not is_damaged(data)
        assert not is_damaged(data + b"\xff\x07 after the end")
        middle = data.index(b"\xff\xda") + 100
        assert is_damaged(data[:middle] + b"\xff\x07" + data[middle + 2 :])
        damaged = [is_damaged(data[:middle] + np.random.default_rng(seed).bytes(1000) + data[middle + 1000 :])
                   for seed in range(100)]  # fmt: skip
        assert sum(damaged) > 90

    @pytest.mark.skipif(cv2.__version__ < "5", reason="OpenCV before 5.0 gives what isn't there as grey")
    @pytest.mark.parametrize("options", [{}, {"optimize": True}, {"subsampling": 0}, {"exif": 6}])
    @pytest.mark.parametrize("left", [0.3, 0.9])
    def test_a_jpeg_without_its_last_pixels(self, tmp_path: Path, options: dict[str, object], left: float) -> None:
        """An end marker behind half of its data: decoders fill the rest with one colour."""
        if "exif" in options:
            turned = Image.Exif()
            turned[0x0112] = options["exif"]
            options = {"exif": turned}
        buffer = BytesIO()
        scene().resize((WIDTH * 3, HEIGHT * 3)).save(buffer, "JPEG", quality=95, **options)  # type: ignore[arg-type]
        data = buffer.getvalue()
        cut = data[: int(len(data) * left)] + b"\xff\xd9"
        assert "its data end before its pixels do" in complaint(write(tmp_path, cut, "a.jpg"))
        assert not lacks_pixels(data) and lacks_pixels(cut)

    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("size_wh", [(1, 1), (7, 9), (64, 48)])
    def test_a_plain_jpeg_is_whole(self, tmp_path: Path, size_wh: tuple[int, int], progressive: bool) -> None:
        out = BytesIO()
        Image.new("RGB", size_wh, (9, 9, 9)).save(out, "JPEG", progressive=progressive)
        assert read_picture(write(tmp_path, out.getvalue(), "a.jpg")).shape[1::-1] == size_wh

    @pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xda", b"text", b"BM\xff\x07"])
    def test_damaged_stub(self, data: bytes) -> None:
        assert is_damaged(data) == data.startswith(b"\xff\xd8")

    def test_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pictures, "MAX_PICTURE_BYTES", 1 << 20)
        assert "more than the limit of 1048576" in complaint(write(tmp_path, bytes((1 << 20) + 1)))

    def test_more_pixels_than_opencv_takes(self, tmp_path: Path) -> None:
        """A bomb: small file, huge announced size."""
        done, data = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))
        assert done
        bomb = bytearray(data.tobytes())
        bomb[16:24] = (1 << 20).to_bytes(4, "big") * 2
        assert "1048576x1048576 pixels, over the limit" in complaint(write(tmp_path, bytes(bomb), "a.png"))

    @given(st.integers(2, 400), st.binary(min_size=1, max_size=8))
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_damage_is_read_or_refused(self, tmp_path: Path, place: int, noise: bytes) -> None:
        data = bytearray(with_thumbnail(jpeg()))
        data[place : place + len(noise)] = noise
        try:
            assert read_picture(write(tmp_path, bytes(data))).ndim == 3
        except FacekitError as error:
            assert REMEDY in str(error) or "--max-pixels" in str(error)

    @pytest.mark.parametrize("size_wh", [(HEIGHT, WIDTH), (WIDTH + 1, HEIGHT), (1, 1)])
    def test_wrong_size(self, tmp_path: Path, size_wh: tuple[int, int]) -> None:
        text = complaint(write(tmp_path, jpeg()), size_wh)
        assert f"the labels say {size_wh[0]}x{size_wh[1]} pixels, the picture has {WIDTH}x{HEIGHT}" in text
        assert "Label the picture" in text


class TestSize:
    """As read_picture gives it, without decoding where the header says it."""

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
    def test_jpeg(self, tmp_path: Path, options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pictures, "read_picture", None)
        assert picture_size(write(tmp_path, jpeg(**options))) == (WIDTH, HEIGHT)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", [".jpg", ".png"])
    def test_turned(self, tmp_path: Path, orientation: int, suffix: str) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        path = tmp_path / f"a{suffix}"
        scene().save(path, exif=exif)
        assert picture_size(path) == read_picture(path).shape[1::-1]

    @pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tiff"])
    def test_others(self, tmp_path: Path, suffix: str) -> None:
        scene().save(tmp_path / f"a.{suffix}")
        assert picture_size(tmp_path / f"a.{suffix}") == (WIDTH, HEIGHT)

    def test_long_header(self, tmp_path: Path) -> None:
        data = jpeg()
        comment = b"\xff\xfe\xff\xff" + bytes(0xFFFD)
        assert picture_size(write(tmp_path, data[:2] + comment * 3 + data[2:])) == (WIDTH, HEIGHT)

    @pytest.mark.parametrize("data", [b"", b"text", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", jpeg()[:100]])
    def test_no_picture(self, tmp_path: Path, data: bytes) -> None:
        with pytest.raises(FacekitError):
            picture_size(write(tmp_path, data))
        with pytest.raises(FacekitError, match="no such file"):
            picture_size(tmp_path / "none.jpg")

    @given(st.integers(0, 200), st.binary(min_size=1, max_size=8))
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_damage(self, tmp_path: Path, place: int, noise: bytes) -> None:
        data = jpeg()
        try:
            size = picture_size(write(tmp_path, data[:place] + noise + data[place + len(noise) :]))
        except FacekitError:
            return
        assert min(size) > 0


def test_a_grey_tiff_with_transparency_is_refused_where_it_would_come_to_light() -> None:
    """OpenCV decodes its grey alone."""
    refused = r"a\.tif: a TIFF whose transparency can't be read\. Save it as PNG"
    for mode, extra, message in (("L", 2, None), ("LA", 0, None), ("LA", 1, refused), ("LA", 2, refused)):
        Image.new(mode, (8, 8)).save(file := BytesIO(), "TIFF")
        written, wanted = (struct.pack("<HHIH", 338, 3, 1, value) for value in (2, extra))  # 0: an unspecified sample
        data = file.getvalue().replace(written, wanted)
        assert decode_picture("a.tif", data).shape == (8, 8, 3)
        with nullcontext() if message is None else pytest.raises(FacekitError, match=message):
            decode_picture("a.tif", data, on_white=True)


@pytest.mark.parametrize(("header_bytes", "alpha", "is_covered"), [(40, 60, False), (108, 0, False), (108, 60, True)])
def test_the_fourth_byte_of_a_bmp_is_alpha_where_its_header_says_so(
    header_bytes: int, alpha: int, is_covered: bool
) -> None:
    """In others it fills the pixel up, and in some writers' all are 0."""
    pixels = np.full((4, 4, 4), (10, 20, 30, alpha), np.uint8)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)[: 12 if header_bytes == 40 else 16]
    info = struct.pack("<IiiHHIIiiII", header_bytes, 4, 4, 1, 32, 3, 64, 0, 0, 0, 0) + masks
    info += bytes(max(0, header_bytes - len(info)))
    head = b"BM" + struct.pack("<IHHI", 14 + len(info) + 64, 0, 0, 14 + len(info))
    image_bgr = decode_picture("a.bmp", head + info + pixels.tobytes(), on_white=True)
    assert (image_bgr == (10, 20, 30)).all() != is_covered
