"""A run's journal: JSON lines beside the checkpoints, TensorBoard where asked for."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facekit.base.extras import optional_packages
from facekit.base.files import check_writable_folder
from facekit.machine.processes import rank
from facekit.pictures.draw import BOX_BGR, draw_box, draw_landmarks
from facekit.structures import Targets

NAME = "log.jsonl"
PICTURES_SHOWN = 4


class Journal:
    """Silent on all processes but the first."""

    def __init__(self, folder: Path, tensorboard_dir: Path | None, iteration: int) -> None:
        """`iteration`: where the run starts or goes on; what TensorBoard knows from beyond is hidden."""
        self.started = time.time()
        self.lines: Any = None
        self.board: Any = None
        if rank() == 0:
            self.lines = _open_lines(folder / NAME)
            if tensorboard_dir is not None:
                check_writable_folder(tensorboard_dir)
                with optional_packages():
                    from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(tensorboard_dir), purge_step=iteration + 1 if iteration else None)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        for sink in (self.lines, self.board):
            if sink is not None:
                sink.close()

    def write(self, record: dict[str, Any]) -> None:
        """A line of figures; `iteration` among them is TensorBoard's step."""
        if self.lines is not None:
            plain = {key: None if value != value else value for key, value in record.items()}  # JSON has no NaN
            self.lines.write(json.dumps({**plain, "seconds": round(time.time() - self.started, 3)}) + "\n")
            self.lines.flush()
        if self.board is not None:
            for key, value in record.items():
                if key not in ("epoch", "iteration", "eta_s") and math.isfinite(value):
                    self.board.add_scalar(key, value, record["iteration"])

    def show(self, images_bgr: Tensor, targets: Targets, iteration: int) -> None:
        """Some pictures of a training batch as they are fed ((B, 3, H, W) BGR pixels), their labels drawn."""
        if self.board is not None:
            drawn = np.stack([_draw(images_bgr, targets, index) for index in range(len(images_bgr[:PICTURES_SHOWN]))])
            self.board.add_images("training pictures", drawn[..., ::-1], iteration, dataformats="NHWC")
            self.board.flush()


def _open_lines(path: Path) -> Any:
    lines = path.open("a+b")
    if lines.tell():
        lines.seek(-1, 2)
        if lines.read(1) != b"\n":  # a process was killed in the middle of a line
            lines.write(b"\n")
    lines.close()
    return path.open("a", encoding="utf-8")


def _draw(images_bgr: Tensor, targets: Targets, index: int) -> NDArray[np.uint8]:
    canvas = np.ascontiguousarray(images_bgr[index].permute(1, 2, 0).cpu().numpy().astype(np.uint8))
    mine = (targets.picture_index == index).numpy()
    for box_xyxy in targets.boxes_xyxy.numpy()[mine]:
        draw_box(canvas, box_xyxy, BOX_BGR, 1)
    known = mine & targets.has_landmarks.numpy()
    for landmarks_xy in targets.landmarks_xy.numpy()[known].reshape(-1, 5, 2):
        draw_landmarks(canvas, landmarks_xy, 1)
    return canvas
