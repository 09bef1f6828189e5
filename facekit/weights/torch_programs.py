"""TorchScript (.ts) and torch.export's programs (.pt2) looked through before PyTorch loads them.

Both are code: TorchScript may call any of PyTorch's operations, some of which read and write files; loading a .pt2
unpickles what it names, and evaluates texts as Python. What facekit writes needs none of that. So the archive is
measured, each of its entries must be one that such files have, pickles may name weights alone, and of code only the
operations of networks pass. Everything else is refused, unloaded.
"""

from __future__ import annotations

import ast
import io
import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facekit.base.reading import HEAD_BYTES, open_file, shown, stand_in
from facekit.errors import FacekitError

MAX_BYTES = 1 << 30
MAX_UNPACKED = 4  # times the file's own size, and a little
MAX_ENTRIES = 20_000
MAX_TEXT_BYTES = 16 << 20  # of code, of a description, of a pickle
KEY = "facekit"  # of what the file says of itself

# By the names of TorchScript, and of ATen behind `torch.ops.aten.`.
OPERATIONS = {
    "_assert_tensor_metadata", "_convolution", "adaptive_avg_pool2d", "add", "add_", "arange", "batch_norm", "cat",
    "chunk", "clamp", "clamp_max", "clamp_min", "clip", "concat", "contiguous", "conv2d", "convolution", "detach",
    "detach_", "div", "dropout", "exp", "expand", "flatten", "flip", "floor_divide", "floordiv", "full", "group_norm",
    "hardsigmoid", "hardsigmoid_", "hardswish", "hardswish_", "hardtanh", "hardtanh_", "index", "leaky_relu",
    "leaky_relu_", "lift_fresh", "lift_fresh_copy", "max_pool2d", "maximum", "mean", "minimum", "mul", "mul_", "ones",
    "permute", "relu", "relu6", "relu6_", "relu_", "repeat", "reshape", "rsub", "select", "sigmoid", "sigmoid_", "silu",
    "silu_", "size", "slice", "softmax", "split", "split_with_sizes", "squeeze", "stack", "sub", "sub_", "sym_size",
    "tile", "to", "transpose", "unbind", "unflatten", "unsqueeze", "upsample_nearest2d", "view", "zeros",
}  # fmt: skip
_BUILTINS = {"int", "float", "bool", "annotate", "NumToTensor", "ImplicitTensorToNum", "Int", "Float", "list", "len"}
_SYMBOLIC = {"Add", "Mul", "Integer", "Symbol", "Max", "Min", "FloorDiv", "Mod", "CleanDiv", "Pow", "Rational",
             "positive", "integer", "True", "False", "evaluate", "PythonMod", "nonnegative"}  # fmt: skip
_NEVER = ("guards_code", "custom_obj_values", "treespec_namedtuple_fields", "as_custom_obj", "as_graph")
_PICKLED = re.compile(
    r"__torch__(\.\w+)*|torch\._utils\._rebuild_tensor_v2|torch\.jit\._pickle\.(build_\w+|restore_type_tag)"
    r"|torch\.(Float|Double|Long|Int|Bool|Half)Storage|collections\.OrderedDict"
)
_SCRIPT_ENTRY = re.compile(
    r"(data|constants)\.pkl|(data|constants)/\d+|version|byteorder|\.data/serialization_id|extra/facekit"
    r"|code/__torch__/[\w/]+\.py(\.debug_pkl)?|\.data/version|attributes\.pkl|\.format_version|\.storage_alignment"
)
_PROGRAM_ENTRY = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|models/model\.json|extra/facekit|archive_format|archive_version|version|byteorder|\.data/(version|serialization_id)"
    r"|\.format_version|\.storage_alignment|data/sample_inputs/model\.pt"
)
_EXAMPLES = "data/sample_inputs/model.pt"  # a pickle that PyTorch loads without a look, unless it is empty


def check_torchscript(path: Path) -> str | None:
    """What a .ts says of itself. Raises FacekitError, in one line, for a file that is damaged, too large, or holds more
    than a network."""
    with _opened(path, _SCRIPT_ENTRY, "TorchScript") as archive:
        for name, data in archive.texts(r"(data|constants)\.pkl|.*\.debug_pkl"):
            if not name.endswith(".debug_pkl"):
                _check_pickle(data, path)
        code = archive.texts(r"code/.*\.py")
        if not code:
            raise FacekitError(f"{path}: no TorchScript that can be run: it holds no code. Export it again.")
        for name, data in code:
            _check_code(data, name, path)
        return archive.said()


def check_exported_program(path: Path) -> str | None:
    """What a .pt2 says of itself. Raises FacekitError as check_torchscript()."""
    with _opened(path, _PROGRAM_ENTRY, "a program of torch.export") as archive:
        texts = dict(archive.texts(r".*\.json"))
        if "models/model.json" not in texts:
            raise FacekitError(f"{path}: no program of torch.export: it holds no models/model.json. Export it again.")
        for name, data in texts.items():
            try:
                content = json.loads(data)
            except (ValueError, RecursionError) as error:
                raise FacekitError(f"{path}: {name} can't be read. Export it again.") from error
            _check_json(content, f"{path}: {name}")
        return archive.said()


class _Archive:
    def __init__(self, path: Path, file: Any, zipped: zipfile.ZipFile) -> None:
        self.path, self.file, self.zipped = path, file, zipped
        self.entries: dict[str, zipfile.ZipInfo] = {}

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.zipped.close()
        self.file.close()

    def texts(self, pattern: str) -> list[tuple[str, bytes]]:
        """Names and contents of entries. Raises FacekitError for one that is too long, or damaged."""
        found = []
        for name, entry in self.entries.items():
            if re.fullmatch(pattern, name):
                if entry.file_size > MAX_TEXT_BYTES:
                    raise FacekitError(f"{self.path}: {name} has {entry.file_size} bytes, too many for a detector.")
                found.append((name, self._read(entry)))
        return found

    def _read(self, entry: zipfile.ZipInfo) -> bytes:
        try:
            return self.zipped.read(entry)
        except Exception as error:  # zlib's, zipfile's and struct's errors have no common base but this one
            raise FacekitError(f"{self.path}: {shown(entry.filename)} is damaged. Bring the file again.") from error

    def said(self) -> str | None:
        entry = self.entries.get(f"extra/{KEY}")
        return None if entry is None else self._read(entry)[:100_000].decode("utf-8", "replace")

    def check_sums(self) -> None:
        """Reads each entry once: PyTorch doesn't look at the sums."""
        for entry in self.entries.values():
            self._read(entry)


def _opened(path: Path, allowed: re.Pattern[str], what: str) -> _Archive:
    """The archive, measured, with nothing in it but the entries that are allowed."""
    file = open_file(path, MAX_BYTES, "Check the path.")
    try:
        head = file.read(HEAD_BYTES)
        if (other := stand_in(head)) is not None:
            raise FacekitError(f"{path}: is {other}.")
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        try:
            archive = _Archive(path, file, zipfile.ZipFile(file))
        except Exception as error:  # as in _read
            raise FacekitError(f"{path}: not {what} ({size} bytes): cut off or damaged. Bring it again.") from error
        infos = archive.zipped.infolist()
        unpacked = sum(info.file_size for info in infos)
        if len(infos) > MAX_ENTRIES or unpacked > MAX_UNPACKED * size + (1 << 20):
            raise FacekitError(f"{path}: {size} bytes that unpack to {unpacked} in {len(infos)} entries: no detector.")
        for info in infos:
            name = info.filename.partition("/")[2]
            is_pickle = name == _EXAMPLES and info.file_size > 0
            if is_pickle or name in archive.entries or allowed.fullmatch(name) is None:
                raise FacekitError(
                    f"{path}: holds {shown(info.filename)!r}, which {what} of facekit's doesn't. It is not opened, "
                    f"as it could run code."
                )
            archive.entries[name] = info
        archive.check_sums()
    except BaseException:
        file.close()
        raise
    return archive


def _check_pickle(data: bytes, path: Path) -> None:
    """That it names weights and modules alone. PyTorch reads these without Python; the look is for others' readers."""
    try:
        names = []
        strings: list[str] = []
        for operation, argument, _ in pickletools.genops(data):
            if operation.name in ("GLOBAL", "INST"):
                names.append(str(argument).replace(" ", ".", 1))
            elif operation.name == "STACK_GLOBAL":
                names.append(".".join(strings[-2:]))
            elif isinstance(argument, str):
                strings.append(argument)
    except Exception as error:  # whatever a damaged pickle trips
        raise FacekitError(f"{path}: its description is damaged. Bring the file again.") from error
    for name in names:
        if _PICKLED.fullmatch(name) is None:
            raise FacekitError(
                f"{path}: names {shown(name)}, which no weights are. It is not opened, as it could run code."
            )


def _check_code(data: bytes, name: str, path: Path) -> None:
    """That TorchScript's code, whose grammar is Python's, calls the operations of networks alone."""
    try:
        tree = ast.parse(data.decode("utf-8"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FacekitError(f"{path}: {shown(name)} is no TorchScript that can be read. Export it again.") from error
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        last = called.rpartition(".")[2]
        is_operation = re.fullmatch(r"torch\.\w+|ops\.(aten|prim)\.\w+", called) is not None
        if not ((is_operation and last in OPERATIONS | _BUILTINS) or called in _BUILTINS):
            raise FacekitError(
                f"{path}: calls {shown(called)}, which no detector of facekit's does. It is not opened, as it could do "
                f"harm."
            )


def _check_json(content: Any, source: str) -> None:
    """That a description has nothing that loading would run: no pickles, no objects, no Python, and only operations of
    networks."""
    refusal = "It is not opened, as it could run code."
    for key, value in _items(content):
        if key == "use_pickle" and value is not False:
            raise FacekitError(f"{source}: has pickled weights. {refusal}")
        if key in _NEVER and value:
            raise FacekitError(f"{source}: has {key}. {refusal}")
        if key == "target":
            parts = str(value).split(".")
            is_known = parts[:3] == ["torch", "ops", "aten"] and len(parts) > 3 and parts[3] in OPERATIONS
            if not (is_known or re.fullmatch(r"_operator\.(add|sub|mul|floordiv|getitem)", str(value))):
                raise FacekitError(f"{source}: calls {shown(value)}, which no detector of facekit's does. {refusal}")
        if key == "expr_str" or key == "range_constraints":
            for text in [value] if key == "expr_str" else list(value):
                _check_symbolic(text, source)
        if key in ("in_spec", "out_spec") and not _is_plain_spec(value):
            raise FacekitError(f"{source}: takes or gives {shown(value)}, not tensors alone. {refusal}")


def _items(content: Any) -> Iterator[tuple[str, Any]]:
    """All keys of all mappings, with their values."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _check_symbolic(text: Any, source: str) -> None:
    """Sizes as sums and products: PyTorch has sympy evaluate them."""
    is_plain = isinstance(text, str) and len(text) < 10_000 and re.fullmatch(r"[\w\s()'=,*+/-]*", text) is not None
    names = set(re.findall(r"[A-Za-z_]\w*", text)) if is_plain else {"?"}
    if any(name not in _SYMBOLIC and re.fullmatch(r"[su]\d+", name) is None for name in names):
        raise FacekitError(f"{source}: states a size as {shown(text)}. It is not opened, as it could run code.")


def _is_plain_spec(text: Any) -> bool:
    names = set(re.findall(r'"type"\s*:\s*("[^"]*"|null)', text)) if isinstance(text, str) else {"?"}
    return names <= {'"builtins.tuple"', '"builtins.list"', '"builtins.dict"', "null"}
