"""How many faces of a video stay uncovered: looked at frame by frame, tracked, and in two passes.

    python tools/measure_anonymizing.py WIDER/wider_face_split/wider_face_val_bbx_gt.txt WIDER/WIDER_val/images

Makes a video of labelled pictures, whose faces' places are known exactly: each picture is panned over and zoomed into
for two seconds, and bars hide most of a face for 1 to 10 frames. Only clear faces count: labelled as sharp, not hidden
and of common pose, at least 40 pixels high in the frame, with their centre in it. It is covered in a frame where
three quarters of the ellipse in its box are.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

import facekit
from facekit.labels.formats import read_labels
from facekit.labels.picture_labels import WIDER_ATTRIBUTES, PictureLabels
from facekit.pictures.cover import Cover
from facekit.pictures.read import read_picture
from facekit.results.json_files import read_jsonl
from facekit.results.row import Row

SIZE_WH, FRAMES, FPS = (960, 540), 60, 30
LEAST_HEIGHT, LEAST_SHARE = 40, 0.75
BAR_EVERY = 25  # frames between the beginnings of two bars over a face, on average


class Clip(NamedTuple):
    """A picture, the box of what is seen of it in each frame, and its clear faces."""

    image_bgr: NDArray[np.uint8]
    views: NDArray[np.float64]  # (FRAMES, 3) left, top, scale
    faces_xyxy: NDArray[np.float64]  # (N, 4) in the picture
    bars: NDArray[np.bool_]  # (FRAMES, N)


def clear_faces(picture: PictureLabels) -> NDArray[np.float64]:
    """(N, 4) corners."""
    assert picture.attributes is not None
    columns = [WIDER_ATTRIBUTES.index(name) for name in ("blur", "occlusion", "pose", "illumination", "invalid")]
    is_clear = ~picture.is_crowd & (picture.attributes[:, columns] == 0).all(axis=1)
    return np.asarray(picture.boxes_xyxy[is_clear], np.float64)


def clips(pictures: list[PictureLabels], count: int, rng: np.random.Generator) -> Iterator[Clip]:
    """Of pictures with one to six clear faces."""
    for index in rng.permutation(len(pictures)):
        faces = clear_faces(pictures[index])
        if not 1 <= len(faces) <= 6 or (faces[:, 3] - faces[:, 1]).min() < 60:
            continue
        image_bgr = read_picture(pictures[index].path)
        height, width = image_bgr.shape[:2]
        start = max(SIZE_WH[0] / width, SIZE_WH[1] / height) * rng.uniform(1.0, 1.3)
        scales = np.linspace(start, start * rng.uniform(0.8, 1.25), FRAMES)
        scales = np.maximum(scales, max(SIZE_WH[0] / width, SIZE_WH[1] / height))
        centre = faces[rng.integers(len(faces))].reshape(2, 2).mean(axis=0)
        drift = rng.uniform(-4, 4, 2) * np.arange(FRAMES)[:, None]
        left_top = centre - np.array(SIZE_WH) / 2 / scales[:, None] + drift / scales[:, None]
        most = np.array([width, height]) - np.array(SIZE_WH) / scales[:, None]
        bars = np.zeros((FRAMES, len(faces)), bool)
        for face in range(len(faces)):
            for begin in np.flatnonzero(rng.random(FRAMES) < 1 / BAR_EVERY):
                bars[begin : begin + rng.integers(1, 11), face] = True
        yield Clip(image_bgr, np.column_stack([left_top.clip(0, most), scales]), faces, bars)
        count -= 1
        if not count:
            return


def frames(clip: Clip, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
    """Each frame, and (N, 4) the clear faces that are in it."""
    colours = rng.integers(0, 255, (len(clip.faces_xyxy), 3)).tolist()
    for (left, top, scale), barred in zip(clip.views, clip.bars, strict=True):
        matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
        frame: Any = cv2.warpAffine(clip.image_bgr, matrix, SIZE_WH, flags=cv2.INTER_AREA)
        faces = (clip.faces_xyxy - np.tile([left, top], 2)) * scale
        for face, is_barred, colour in zip(faces, barred, colours, strict=True):
            if is_barred:  # from the forehead to the mouth
                x1, y1, x2, y2 = (round(value) for value in face)
                cv2.rectangle(
                    frame, (x1 - 9, round(y1 + 0.15 * (y2 - y1))), (x2 + 9, round(y1 + 0.8 * (y2 - y1))), colour, -1
                )
        centres = (faces[:, :2] + faces[:, 2:]) / 2
        is_in = ((centres >= 0) & (centres < SIZE_WH)).all(axis=1) & (faces[:, 3] - faces[:, 1] >= LEAST_HEIGHT)
        yield np.asarray(frame, np.uint8), faces[is_in]


def write_video(path: Path, made: list[Clip], rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """The faces of each frame."""
    import av

    truth: list[NDArray[np.float64]] = []
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "16"})
        stream.width, stream.height, stream.pix_fmt = *SIZE_WH, "yuv420p"
        for clip in made:
            for frame_bgr, faces in frames(clip, rng):
                frame: Any = av.VideoFrame.from_ndarray(frame_bgr, format="bgr24")
                frame.pts, frame.time_base = len(truth), Fraction(1, FPS)
                container.mux(stream.encode(frame))
                truth.append(faces)
        container.mux(stream.encode(None))
    return truth


def uncovered(truth: list[NDArray[np.float64]], rows: list[Row], cover: Cover) -> tuple[int, int]:
    """How many faces in all frames are not covered, and how many there are."""
    missed = total = 0
    for faces, row in zip(truth, rows, strict=True):
        mask = np.zeros(SIZE_WH[::-1], np.uint8)
        for box in row.faces.boxes_xyxy:
            _ellipse(mask, cover.area(box))
        for face in faces:
            own = np.zeros_like(mask)
            _ellipse(own, face)
            total += 1
            missed += int(np.count_nonzero(own & mask) < LEAST_SHARE * np.count_nonzero(own))
    return missed, total


def _ellipse(mask: NDArray[np.uint8], box_xyxy: NDArray[np.float64]) -> None:
    x1, y1, x2, y2 = (float(value) for value in box_xyxy)
    centre, axes = (round((x1 + x2) / 2), round((y1 + y2) / 2)), (round((x2 - x1) / 2), round((y2 - y1) / 2))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, cv2.FILLED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--threshold", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    made = list(clips(read_labels(args.labels, args.root), args.clips, rng))
    with tempfile.TemporaryDirectory() as folder:
        video, report = Path(folder) / "made.mp4", Path(folder) / "report.jsonl"
        truth = write_video(video, made, rng)

        def two_passes() -> list[Row]:
            facekit.anonymize(
                (str(video),), output=Path(folder) / "out.mp4", threshold=args.threshold, report=report,
                threads=args.threads,
            )  # fmt: skip
            return list(read_jsonl(report))

        def found(track: bool) -> list[Row]:
            return list(facekit.detect((str(video),), threshold=args.threshold, threads=args.threads, track=track))

        ways: dict[str, Callable[[], list[Row]]] = {
            "frame by frame": lambda: found(False), "tracked": lambda: found(True), "two passes": two_passes,
        }  # fmt: skip
        barred = sum(int(clip.bars.sum()) for clip in made)
        print(f"{len(made)} clips, {len(truth)} frames; {barred} face-frames with a bar; threshold {args.threshold:g}")
        first = None
        for name, way in ways.items():
            missed, total = uncovered(truth, way(), Cover())
            share = missed / total
            first = share if first is None else first
            told = f"{100 * share:.2f} % ({share / max(first, 1e-9):.2f} of the first)"
            print(f"{name:15} {missed:6} of {total} face-frames uncovered: {told}")


if __name__ == "__main__":
    main()
