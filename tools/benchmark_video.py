"""`facekit detect` on a video beside the detector alone on the same frames, and beside deface.

    python tools/benchmark_video.py street.mp4 --deface venvs/deface/bin/deface

The detector alone: each frame is decoded first, and only detection is timed. The command: reading, detection and rows,
from the first frame to the last. Both take turns, so that what else the machine does hits both alike. deface (with its
own network, at the same input size), `facekit detect` and `facekit anonymize` are timed as whole processes.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from facekit.commands.watching import Looking, Seen, faces_of, watch
from facekit.detector import Detector, Passes
from facekit.pictures.frames import open_frames
from facekit.pictures.video import find_source


def own_seconds(video: Path, detector: Detector) -> tuple[int, float]:
    """Frames, and seconds spent in detection alone."""
    frames, spent = 0, 0.0
    with open_frames(find_source(str(video))) as source:
        for frame in source.frames():
            started = time.perf_counter()
            detector.detect(frame.image_bgr).above(0.5)
            spent += time.perf_counter() - started
            frames += 1
    return frames, spent


def pipeline_seconds(video: Path, detector: Detector) -> tuple[int, float]:
    """Frames, and seconds from the first to the last."""
    seen, started, frames = Seen(), 0.0, 0
    for frame, faces in watch(find_source(str(video)), seen, lambda frames: faces_of(frames, detector, Looking())):
        frames += 1
        started = started or time.perf_counter()
        faces.to_dicts()
        del frame
    return frames - 1, time.perf_counter() - started


def process_seconds(command: list[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--longest-side", type=int, default=640)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--deface", help="deface's program")
    args = parser.parse_args()
    detector = Detector.bundled(threads=args.threads, passes=Passes(longest_side=args.longest_side, large_faces=True))
    own = pipeline = (0, 0.0)
    for _ in range(args.rounds):
        own = tuple(map(sum, zip(own, own_seconds(args.video, detector), strict=True)))  # type: ignore[assignment]
        pipeline = tuple(map(sum, zip(pipeline, pipeline_seconds(args.video, detector), strict=True)))  # type: ignore[assignment]
    rates = own[0] / own[1], pipeline[0] / pipeline[1]
    print(f"detector alone {rates[0]:.1f} frames/s, detect's pipeline {rates[1]:.1f}: {rates[1] / rates[0]:.2f} of it")
    print(f"peak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    if not args.deface:
        return
    with open_frames(find_source(str(args.video))) as source:
        width, height = source.size_wh
    scale = args.longest_side / max(width, height)
    size = f"{round(width * scale)}x{round(height * scale)}"
    with tempfile.TemporaryDirectory() as folder:
        common = ["--longest-side", str(args.longest_side), "--threads", str(args.threads)]
        ours = [sys.executable, "-m", "facekit"]
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
        commands = {
            "detect": [*ours, "detect", str(args.video), "--jsonl", f"{folder}/a.jsonl", *common],
            "anonymize": [*ours, "anonymize", str(args.video), "-o", f"{folder}/a.mp4", *common],
            "deface": [args.deface, str(args.video), "-o", f"{folder}/b.mp4", "--scale", size, "--backend", "onnxrt"],
        }
        seconds = {name: process_seconds(command) for name, command in commands.items()}
    for name, spent in seconds.items():
        print(f"{name:10} {own[0] / args.rounds / spent:6.1f} frames/s, {seconds['deface'] / spent:.1f} times deface's")


if __name__ == "__main__":
    main()
