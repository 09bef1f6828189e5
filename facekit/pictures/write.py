"""Pictures into files, signed as videos are, so that they are never taken for what they were drawn on."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.base.files import check_not_input, check_ours, replacing
from facekit.base.reading import open_regular, read_bytes
from facekit.errors import FacekitError
from facekit.pictures.exif import without_pictures
from facekit.pictures.headers import read_header
from facekit.pictures.read import MAX_PICTURE_BYTES

WRITTEN_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff")
WITH_EXIF = (".jpg", ".jpeg", ".jpe", ".png", ".webp")
EXIF_READ = ("JPEG", "PNG", "WebP", "AVIF", "BMP", "GIF")  # the last two have none
SIGNATURE = b"Drawn by facekit\0"
CUT_SIGNATURE = b"Cut out by facekit\0"
SEARCHED_BYTES = 4096  # at each end of a file


def write_picture(
    path: Path, image_bgr: NDArray[np.uint8], exif: bytes | None = None, signature: bytes = SIGNATURE
) -> None:
    """Encodes (H, W, 3) BGR uint8 by the suffix, signs it (see is_drawn), and writes it whole or not at all.

    exif: as kept_exif() gives it; only where the kind has room for it (WITH_EXIF). signature: CUT_SIGNATURE for what is
    no drawing, but a picture like any other.
    Raises FacekitError where that fails, and for a file that the command reads.
    """
    check_picture_name(path)
    suffix = path.suffix.lower()
    done, data = False, np.empty(0, np.uint8)
    try:
        if suffix in WITH_EXIF:
            written = np.frombuffer(_exif_of(signature) if exif is None else exif, np.uint8)
            done, data = cv2.imencodeWithMetadata(suffix, image_bgr, [cv2.IMAGE_METADATA_EXIF], [written])
        else:
            done, data = cv2.imencode(suffix, image_bgr)
    except cv2.error:  # such as more pixels a side than the format has room for
        done = False
    if not done:
        height, width = image_bgr.shape[:2]
        raise FacekitError(f"{path}: {width}x{height} pixels can't be encoded as {suffix}. Choose .png or .jpg.")
    # The other formats' readers stop at the end that the header tells.
    signed = data.tobytes()
    if signature not in signed:
        signed += signature
    with replacing(path) as beside:
        beside.write_bytes(signed)


def _exif_of(signature: bytes) -> bytes:
    """EXIF with one entry: tag 0x0131, Software, ASCII."""
    return b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0131, 2, len(signature), 26, 0) + signature


def kept_exif(path: Path) -> bytes | None:
    """What may stay of a picture's EXIF where its faces are covered, see without_pictures(); None where it has none.

    Raises FacekitError for kinds whose EXIF is not read, and where nothing of it can be kept.
    """
    data = read_bytes(path, MAX_PICTURE_BYTES, "Check the path.")
    header = read_header(data)
    if header is None or header.kind not in EXIF_READ:
        raise FacekitError(f"{path}: its EXIF is not kept: that of {header.kind if header else 'this'} is not read.")
    try:
        buffer = np.frombuffer(data, np.uint8)
        _, kinds, parts = cv2.imdecodeWithMetadata(buffer, flags=cv2.IMREAD_REDUCED_GRAYSCALE_8)
    except cv2.error:
        kinds, parts = (cv2.IMAGE_METADATA_EXIF,), (np.empty(0, np.uint8),)
    found = dict(zip(kinds, parts, strict=True)).get(cv2.IMAGE_METADATA_EXIF)
    if found is None:
        return None
    kept = without_pictures(np.asarray(found).tobytes())
    if kept is None:
        raise FacekitError(f"{path}: its EXIF is not kept: it is damaged, too large, or nothing of it may stay.")
    return kept


def check_picture_name(path: Path) -> None:
    """Raises FacekitError for a suffix that can't be written."""
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        raise FacekitError(f"{path}: unknown kind of picture; expected one of {', '.join(WRITTEN_SUFFIXES)}.")


def sign_video(path: Path) -> None:
    """Appends what its readers pass over: is_drawn() finds it. Raises FacekitError where the disk refuses."""
    suffix = path.suffix.lower()
    if suffix == ".avi":
        end = b"JUNK" + struct.pack("<I", len(SIGNATURE)) + SIGNATURE + bytes(len(SIGNATURE) % 2)
    elif suffix in (".mkv", ".webm"):  # EBML's Void
        end = bytes((0xEC, 0x80 | len(SIGNATURE))) + SIGNATURE
    elif suffix == ".ts":  # a null packet
        end = (b"G\x1f\xff\x10" + SIGNATURE).ljust(188, b"\xff")
    else:  # MP4's family
        end = struct.pack(">I4s", 8 + len(SIGNATURE), b"free") + SIGNATURE
    try:
        with path.open("ab") as file:
            file.write(end)
    except OSError as error:
        raise FacekitError(f"{path}: can't be written to its end ({error}). Nothing was kept.") from error


def check_replaceable(path: Path) -> None:
    """Raises FacekitError for a file that is there and facekit didn't write: the first of `draw=*.mp4`, say; and, as
    check_not_input(), for one that the command reads."""
    check_not_input(path)
    check_ours(path, lambda path: _is_signed(path, SIGNATURE, CUT_SIGNATURE), "facekit didn't write it")


def is_drawn(path: Path) -> bool:
    """Whether write_picture() wrote the file, not as one that was cut out, or sign_video() signed it."""
    return _is_signed(path, SIGNATURE)


def _is_signed(path: Path, *signatures: bytes) -> bool:
    try:
        with open_regular(path) as file:
            ends = [file.read(SEARCHED_BYTES) or b""]
            file.seek(max(0, path.stat().st_size - SEARCHED_BYTES))
            ends.append(file.read(SEARCHED_BYTES) or b"")
        return any(signature in end for signature in signatures for end in ends)
    except (OSError, FacekitError):  # reading it will say so
        return False
