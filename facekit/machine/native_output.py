"""What libraries print past Python, which would stand between a command's own lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2

SILENT = 0  # cv2.utils.logging.LOG_LEVEL_SILENT


@contextmanager
def native_output_hidden() -> Iterator[None]:
    """Sends what is written to the process's standard output and error meanwhile to nowhere: of all threads, so for
    short calls alone."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # a daemon may have none
            stream.flush()
    kept = [os.dup(number) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        yield
    finally:
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(nowhere)


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keeps what OpenCV and FFmpeg write to the screen by themselves off it, but where the user asked for it."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" in os.environ:
        yield
        return
    logging: Any = getattr(cv2.utils, "logging", cv2)  # where OpenCV 4.12 has them
    level = logging.getLogLevel()
    logging.setLogLevel(SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)
