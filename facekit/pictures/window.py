"""A window on the screen, where there is one."""

from __future__ import annotations

import os
import socket
import sys

import cv2
import numpy as np
from numpy.typing import NDArray

WINDOW = "facekit (q or Esc ends)"
MAX_WINDOW_WH = (1280, 720)


def has_display() -> bool:
    """Whether a window can be opened: Qt in opencv-python aborts the whole process where there is none."""
    if sys.platform in ("win32", "darwin"):
        return True
    if os.environ.get("WAYLAND_DISPLAY"):
        return True
    host, _, number = os.environ.get("DISPLAY", "").rpartition(":")
    number = number.partition(".")[0]
    if not number.isdigit():
        return False
    # A stale DISPLAY aborts Qt as well as none does: ask whether the server answers.
    try:
        if host in ("", "unix"):
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(f"/tmp/.X11-unix/X{number}")
        else:
            socket.create_connection((host, 6000 + int(number)), timeout=2).close()
    except (OSError, OverflowError):
        return False
    return True


def show(canvas: NDArray[np.uint8], wait_ms: int) -> bool:
    """False when the user wants to end."""
    # opencv-python's Qt finds no fonts of its own and says so at each window; nothing is written with them.
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
    height, width = canvas.shape[:2]
    scale = min(1.0, MAX_WINDOW_WH[0] / width, MAX_WINDOW_WH[1] / height)
    cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    cv2.resizeWindow(WINDOW, round(width * scale), round(height * scale))
    cv2.imshow(WINDOW, canvas)
    return cv2.waitKey(wait_ms) & 0xFF not in (ord("q"), 27)
