"""Run by the Python of an overlay environment that has litert-torch (facekit.targets.tflite makes it); imports nothing
of facekit.

python tflite_convert.py FILE.json: {"program": a .pt2 of one size, "size_hw": [H, W], "names": of the outputs,
"written": {"nchw": FILE.tflite, "nhwc": FILE.tflite}}
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import litert_torch
import torch


class Named(torch.nn.Module):
    """The program with a name for each output, which become those of the signature."""

    def __init__(self, program: Any, names: list[str]) -> None:
        super().__init__()
        self.program, self.names = program, names

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(self.names, self.program(image), strict=True))

    def train(self, mode: bool = True) -> Named:
        """A program of torch.export has no modes: it is as it was exported."""
        self.training = mode
        return self


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    height, width = job["size_hw"]
    image = torch.linspace(0, 255, 3 * height * width).view(1, 3, height, width).contiguous()
    named = Named(torch.export.load(job["program"]).module(), job["names"]).eval()
    for layout, path in job["written"].items():
        module, given = named, image
        if layout == "nhwc":
            module = litert_torch.to_channel_last_io(named, args=[0])
            given = image.permute(0, 2, 3, 1).contiguous()
            litert_torch.convert(module.eval(), (given,)).export(path)
            continue
        litert_torch.convert(module.eval(), sample_kwargs={"image": given}).export(path)


if __name__ == "__main__":
    main()
