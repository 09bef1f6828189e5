"""The data download command: a published data set on this disk."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from facekit.base.options import command_options, option, takes
from facekit.errors import ArgumentError

log = logging.getLogger(__name__)


@command_options
class DownloadOptions:
    """Options of a download."""

    name: Literal["widerface", "fddb"] = option("The data set.", positional=True, kw_only=False)
    destination: Path = option("Its folder.", positional=True, kw_only=False)
    landmarks: Path | None = option(
        "labelv2 or other labels of the training pictures, with landmarks.", default=None, reads=True
    )
    with_test: bool = option("WIDER_test too, which has no labels.", default=False)
    val_only: bool = option("Leave WIDER_train out: enough to measure.", default=False)
    remove_archives: bool = option("Take each archive away once it is unpacked.", default=False)

    def __post_init__(self) -> None:
        if self.name != "widerface" and (self.landmarks or self.with_test or self.val_only):
            raise ArgumentError("`landmarks`, `with_test` and `val_only` are for widerface.")
        if self.val_only and self.landmarks:
            raise ArgumentError("`landmarks` is for the training pictures, which `val_only` leaves out.")


@takes(DownloadOptions)
def download_data(options: DownloadOptions) -> str:
    """Brings a published data set, checked, unpacked and ready for train and eval; returns how to go on with it.

    What is to be done is said (logged) first. Raises FacekitError where the disk hasn't room or no mirror answers.
    """
    from facekit.datasets import arrange, catalogue, obtain

    if options.landmarks is not None:
        arrange.check_landmarks(options.landmarks)
    left_out = [part for part, is_out in (("train", options.val_only), ("test", not options.with_test)) if is_out]
    plan = obtain.plan_download(catalogue.DATA_SETS[options.name], options.destination, left_out)
    log.info("%s", plan.text())
    obtain.obtain(plan, options.remove_archives)
    if options.name == "fddb":
        return arrange.arrange_fddb(options.destination)
    parts = [part for part in arrange.WIDER_PARTS if part not in left_out]
    return arrange.arrange_widerface(options.destination, parts, options.landmarks)
