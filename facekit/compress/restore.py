"""Compressed networks from their checkpoints."""

from __future__ import annotations

import json
from typing import Any

from torch import nn

from facekit.checkpoint import Checkpoint, load_state
from facekit.compress.nncf_quietly import nncf
from facekit.errors import FacekitError


def describe_compression(network: nn.Module) -> dict[str, Any]:
    """What a checkpoint must keep beside the tensors to build the compressed network again: plain data."""
    # Through JSON: NNCF's enumerations look like text but are classes, which a safe torch.load refuses.
    return {"nncf": json.loads(json.dumps(nncf.torch.get_config(network)))}


def restore_compressed(network: nn.Module, checkpoint: Checkpoint, source: str) -> nn.Module:
    """The compressed network: quantisers and masks as saved, put around a fresh `network` of the template."""
    try:
        compressed = nncf.torch.load_from_config(network, checkpoint.meta["compression"]["nncf"])
    except (KeyError, RuntimeError, ValueError, nncf.InternalError, nncf.ValidationError) as error:
        raise FacekitError(
            f"{source}: its description of the compression can't be read ({error}). Compress the weights again."
        ) from error
    load_state(compressed, checkpoint.state_dict, source)
    return compressed
