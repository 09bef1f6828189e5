"""Other programs' checkpoints: where in them the weights lie, and what stands before the names."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from facekit.base.reading import open_file, shown, stand_in
from facekit.errors import FacekitError
from facekit.weights.torch_file import MAX_BYTES, SAVE_ALONE, look_through

log = logging.getLogger(__name__)

# Where other programs put the weights, in the order of trust; the averaged ones of a training are what it is for, but
# whoever names both means the first by "the model".
WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "net_state_dict", "weights", "params",
    "module", "detector", "student", "ema", "model_ema", "ema_state_dict", "params_ema", "ema_model",
)  # fmt: skip
MAX_WRAPPED = 3  # levels
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
OUTER = (
    "model.",
    "net.",
    "network.",
    "detector.",
    "student.",
    "ema_model.",
)  # of programs that hold the network as one
MAX_HEADER_BYTES = 4 << 20
CONVERT = "torch.save(safetensors.torch.load_file('weights.safetensors'), 'weights.pth')"


def find_state_dict(content: Any, source: Path) -> dict[str, Tensor]:
    """The tensors by name, from wherever in the file they lie. Raises FacekitError where there are none."""
    found = list(_state_dicts(content, "", MAX_WRAPPED))
    if not found:
        raise FacekitError(f"{source}: holds no state_dict of tensors: {_described(content)}. {SAVE_ALONE}")
    where, state_dict = min(found, key=lambda item: _trust(item[0]))
    if where:
        others = [other for other, _ in found if other != where]
        log.info("%s: taking %s%s", source, where, f"; also there: {', '.join(others)}" if others else "")
    return state_dict


def _state_dicts(content: Any, where: str, levels: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(content, dict):
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    # A mapping of tensors, perhaps with a number or a text among them; not one of mappings with a tensor among them.
    others = [value for key, value in content.items() if key not in tensors]
    if tensors and not any(isinstance(value, dict) and value for value in others):
        yield where, tensors
    elif levels:
        for key, value in content.items():
            if isinstance(key, str) and key not in ("optimizer", "optimizer_state_dict", "optim", "optimizer_states"):
                yield from _state_dicts(value, f"{where}.{shown(key)}" if where else shown(key), levels - 1)


def _trust(where: str) -> tuple[int, ...]:
    return tuple(WRAPPERS.index(part) if part in WRAPPERS else len(WRAPPERS) for part in where.split("."))


def _described(content: Any) -> str:
    if isinstance(content, dict):
        return f"its keys are {', '.join(shown(key, 30) for key in list(content)[:8]) or 'none'}"
    return f"it is a {type(content).__name__}"


def plain_names(state_dict: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The same without what wrappers put before the names, in any mixture. Raises FacekitError where two tensors get
    the same name."""
    names = {name: _without_prefixes(name) for name in state_dict}
    if any(name.startswith("module.") for name in state_dict):  # a counter of torch's averaged models
        names.pop("n_averaged", None)
    for outer in OUTER:
        if names and all(name.startswith(outer) for name in names.values()):
            names = {old: _without_prefixes(name.removeprefix(outer)) for old, name in names.items()}
            break
    plain: dict[str, Tensor] = {}
    for old, name in names.items():
        if name in plain:
            raise FacekitError(
                f"{source}: holds names with and without 'module.' in front, {shown(name, 200)} twice. Which are "
                f"meant? Take some out."
            )
        plain[name] = state_dict[old]
    return plain


def _without_prefixes(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name.replace("._orig_mod.", ".")


def read_safetensors(source: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file. Raises FacekitError for a damaged file, and where its library isn't there."""
    with open_file(source, MAX_BYTES, "Check the path.") as file:
        head = file.read(512)
        size = file.seek(0, 2)
    if (what := stand_in(head)) is not None:
        raise FacekitError(f"{source}: is {what}.")
    length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else size
    if length > min(MAX_HEADER_BYTES, size - 8):
        raise FacekitError(f"{source}: not a safetensors file, or cut off. Bring the file again.")
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise FacekitError(
            f"{source}: reading it takes a library: pip install safetensors. Or, where that is: {CONVERT}."
        ) from error
    try:
        content = load_file(source)
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, json.JSONDecodeError) as error:
        raise FacekitError(f"{source}: not a safetensors file, or cut off ({shown(error, 120)}).") from error
    look_through(content, source, size)
    return content
