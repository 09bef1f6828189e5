"""Good files made bad: bytes turned over, values put out of their range, shared by the tests and tools/fuzz.py."""

from __future__ import annotations

import copy
import io
import json
import math
import re
from random import Random
from typing import Any

import torch
from torch import Tensor

NUMBERS: list[Any] = [
    0, -1, 1, 2, 7, -0.5, 0.1, 1e-30, 1e308, -1e308, 2**31, -(2**31), 2**63, 2**70, 10**18, 10**40, math.nan, math.inf,
    -math.inf, True, False,
]  # fmt: skip
VALUES: list[Any] = [
    *NUMBERS, None, "", "x", "0", "nan", "x" * 5000, "9" * 5000, "a\0b", "../../x", "/dev/zero", "ü\n", [], [[]], {},
    [None], {"a": 1}, [1] * 1000, [[[1]]], {"kind": "sgd"},
]  # fmt: skip
YAML_VALUES = [
    "0", "-1", "1", "7", "1e308", "-1e308", "1e-30", str(2**31), str(2**63), str(2**70), "9" * 5000, ".nan", ".inf",
    "null", "true", "''", "x", "[]", "[[]]", "{}", "[0]", "[1000000000, 1000000000]", "[[[0, 0]]]", "*a", "&a [*a]",
    "!!python/x y", "2026-99-99", '"\\0"', '"\\ud800"', "{kind: x}", "x" * 3000, "[" * 500, "\t", "- -", ": :",
]  # fmt: skip


def bad_tensor(random: Random, good: Tensor) -> Tensor:
    """Something in the place of a tensor."""
    kinds = [
        lambda: good.new_full(good.shape, math.nan) if good.is_floating_point() else good.float(),
        lambda: torch.full(good.shape, -math.inf),
        lambda: torch.full(good.shape, 1e30),
        lambda: torch.full(good.shape, -1.0),
        lambda: good.to(torch.complex64),
        lambda: good.to(torch.int8),
        lambda: good.bool(),
        lambda: good.half(),
        lambda: good.double() * 1e200,
        lambda: good.flatten(),
        lambda: good.flatten()[:0],
        lambda: torch.zeros(1).expand(4, 1 << 20, 1 << 20),
        lambda: torch.zeros(1).expand(good.shape) if good.dim() else good[None],
        lambda: torch.zeros(good.shape, device="meta"),
        lambda: good.float().to_sparse() if good.dim() else good[None],
        lambda: torch.quantize_per_tensor(good.float(), 0.1, 0, torch.qint8),
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        lambda: torch.zeros(1 << 20)[: max(1, good.numel())],
        lambda: torch.randn(good.shape) * 1e4,
    ]
    return random.choice(kinds)()


def mutated_content(random: Random, content: Any) -> Any:
    """A checkpoint's content, or a record's, with some of its values replaced, left out or doubled."""
    content = _copied(content)
    for _ in range(random.choice([1, 1, 1, 2, 5])):
        places = list(_places(content))
        if not places:
            break
        holder, key = random.choice(places)
        value = holder[key]
        action = random.random()
        if action < 0.15:
            del holder[key]
        elif action < 0.25 and isinstance(holder, dict):
            holder[random.choice(["x", 7, "", "state_dict", None, (1, 2)])] = value
        elif isinstance(value, Tensor) and action < 0.85:
            holder[key] = bad_tensor(random, value)
        elif isinstance(value, int | float) and action < 0.7:
            holder[key] = random.choice(NUMBERS)
        else:
            holder[key] = copy.deepcopy(random.choice(VALUES))
    return content


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def _places(value: Any, depth: int = 0) -> Any:
    """All holders and keys; the outer ones as often as the many inner ones."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    for key in keys:
        inner = list(_places(value[key], depth + 1))
        yield from [(value, key)] * max(1, min(len(inner), 40) if depth < 2 else 1)
        yield from inner


def mutated_bytes(random: Random, data: bytes) -> bytes:
    """Cut off, turned over, doubled, filled in."""
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 8])):
        at = random.randrange(len(changed) + 1)
        length = random.choice([1, 2, 4, 8, 64, 4096])
        action = random.randrange(7)
        if action == 0:
            del changed[at:]
        elif action == 1:
            del changed[at : at + length]
        elif action == 2:
            changed[at:at] = random.randbytes(length)
        elif action == 3:
            changed[at : at + length] = random.choice([b"\0", b"\xff", b"\x7f"]) * length
        elif action == 4:
            other = random.randrange(len(changed) + 1)
            changed[at:at] = changed[other : other + length]
        elif at < len(changed):
            changed[at] ^= 1 << random.randrange(8)
    return bytes(changed)


def mutated_text(random: Random, text: str, values: list[str]) -> str:
    """Lines and numbers of a text with lines."""
    for _ in range(random.choice([1, 1, 2, 4])):
        lines = text.splitlines(keepends=True) or [""]
        at = random.randrange(len(lines))
        action = random.randrange(8)
        if action == 0:
            del lines[at]
        elif action == 1:
            lines.insert(at, random.choice(lines))
        elif action == 2:
            lines[at] = lines[at].replace(" ", "", 1)
        elif action == 3:
            lines[at] = mutated_bytes(random, lines[at].encode()).decode("utf-8", "replace")
        else:
            found = list(re.finditer(r"(?<![\w.])-?\d[\d.e+-]*|true|false|null|[a-z_]{3,}(?=[,}\]\n])", lines[at]))
            if found:
                match = random.choice(found)
                lines[at] = lines[at][: match.start()] + random.choice(values) + lines[at][match.end() :]
        text = "".join(lines)
    return text


def mutated_json(random: Random, text: str) -> str:
    """A JSON text, mostly still one."""
    if random.random() < 0.2:
        return mutated_bytes(random, text.encode()).decode("utf-8", "replace")
    try:
        return json.dumps(mutated_content(random, json.loads(text)), skipkeys=True)
    except ValueError:
        return text


def torch_bytes(content: Any) -> bytes:
    """What torch.save makes of it."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
