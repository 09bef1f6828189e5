"""Batch norms that learnt crops, brought nearer to the whole pictures that a detector looks at.

    python tools/whole_picture_norms.py WEIGHTS.pth OUT.pth --template NAME --labels LABELS --data-root FOLDER

Each norm's mean and variance go a share of the way to what they are within a whole picture, on average of pictures that
are drawn as `train --balance-folders` draws them; nothing is learnt. The discrepancy, and that it is worth mending, is
that of Touvron et al., "Fixing the train-test resolution discrepancy", NeurIPS 2019.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from facekit.errors import FacekitError
from facekit.feed import pad
from facekit.labels.formats import read_labels
from facekit.models import build_model
from facekit.ops.pixels import normalise
from facekit.pictures.read import read_picture
from facekit.template import Template, find_template, load_template
from facekit.training_data.balance import folder_shares
from facekit.weights.checkpoint import load_state, save_checkpoint, weights_alone
from facekit.weights.load import load_weights


def whole_picture(path: Path, template: Template, longest_side: int) -> Tensor:
    """(1, 3, H, W) uint8, scaled to that longest side and padded as the template's protocol pads."""
    image_bgr = read_picture(path)
    factor = longest_side / max(image_bgr.shape[:2])
    scaled = np.asarray(cv2.resize(image_bgr, None, fx=factor, fy=factor), np.uint8)
    height, width = scaled.shape[:2]
    multiple = template.evaluation.size_multiple or 1
    return torch.from_numpy(pad(scaled, -height % multiple, -width % multiple)).permute(2, 0, 1)[None]


def restate(network: nn.Module, pictures: list[Path], template: Template, longest_side: int, share: float) -> None:
    """In place; the network's other layers stay as they are."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    learnt = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]  # type: ignore[union-attr]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all pictures
        norm.train()
    with torch.no_grad():
        for path in tqdm(pictures, unit="picture"):
            network(normalise(whole_picture(path, template, longest_side), template.input))
    for norm, (mean, variance) in zip(norms, learnt, strict=True):
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(mean.lerp(norm.running_mean, share))
        norm.running_var.copy_(variance.lerp(norm.running_var, share))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--template", required=True)
    parser.add_argument("--labels", type=Path, required=True, help="training pictures")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--share", type=float, default=0.3, help="of the way, 0 to 1")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--longest-side", type=int, default=1024)
    parser.add_argument("--balance-folders", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.output.exists():
        parser.error(f"{asked.output}: is there already.")
    if not (0 <= asked.share <= 1 and asked.pictures >= 1 and asked.longest_side >= 32):
        parser.error("expected a --share of 0 to 1, one of --pictures at least, and a --longest-side of 32 at least.")
    try:
        _bring(asked)
    except FacekitError as error:
        parser.error(str(error))


def _bring(asked: argparse.Namespace) -> None:
    template = load_template(find_template(asked.template))
    checkpoint = weights_alone(load_weights(asked.weights, template))
    network = build_model(template)
    load_state(network, checkpoint.state_dict, str(asked.weights))
    labelled = read_labels(asked.labels, asked.data_root)
    count = min(asked.pictures, len(labelled))
    shares = folder_shares(labelled, asked.balance_folders)
    drawn = np.random.default_rng(asked.seed).choice(len(labelled), count, replace=False, p=shares / shares.sum())
    restate(network, [labelled[index].path for index in drawn], template, asked.longest_side, asked.share)
    counts = {name: value for name, value in checkpoint.state_dict.items() if name.endswith("num_batches_tracked")}
    save_checkpoint(asked.output, dataclasses.replace(checkpoint, state_dict=network.state_dict() | counts))
    print(f"{asked.output}: of {count} whole pictures, longest side {asked.longest_side}, share {asked.share:g}")


if __name__ == "__main__":
    main()
