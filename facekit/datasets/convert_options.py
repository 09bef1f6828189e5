"""What converting labels does on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from facekit.base.options import command_options, given_of, option
from facekit.errors import ArgumentError


@command_options
class ConvertOptions:
    """Which faces and pictures stay, how they are dealt out, and what becomes of the pictures."""

    min_size: float = option("Leave out faces smaller, pixels.", default=0.0, least=0)  # in width or height
    drop_invalid: bool = option("Leave out faces that WIDER's attributes call invalid.", default=False)
    subset: Path | None = option("Text file with the pictures to keep, a name a line.", default=None, reads=True)
    split: tuple[float, ...] = option("Shares of train, val and test, such as 0.9:0.1.", default=(), metavar="A:B[:C]")
    seed: int = option("Of the split.", default=0)
    pictures: Literal["none", "copy", "link"] | None = option(
        "What to do with them [copy into yolo, yolo-face, voc, voc-wider; else none].", default=None
    )
    force: bool = option("Write over a file, or into a folder that holds something else.", default=False)

    def __post_init__(self) -> None:
        """Raises ArgumentError for options that don't go together."""
        if given_of(self, ["seed"]) and not self.split:
            raise ArgumentError("`seed` is about how pictures are dealt out: add `split`.")
