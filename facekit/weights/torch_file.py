"""What torch.save wrote, read without executing anything and without trusting a number in it."""

from __future__ import annotations

import io
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from facekit.base.reading import HEAD_BYTES, open_file, shown, stand_in
from facekit.errors import FacekitError

MAX_BYTES = 4 << 30  # the largest template's checkpoint, with optimiser and average, has a quarter
MAX_UNPACKED = 4  # times the file's own size
MAX_PICKLE_BYTES = 4 << 20  # names, shapes and records; the tensors' numbers lie outside
MAX_VALUES = 1_000_000
MAX_TEXT = 64 << 20  # characters, all values together
MAX_DEPTH = 40
DTYPES = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
}  # fmt: skip
BRING_AGAIN = "Bring the file again, or take the previous epoch's."
SAVE_ALONE = "Where it comes from, save the weights alone: torch.save(model.state_dict(), 'weights.pth')."
# torch's safe loading builds these, of any size that the file names.
_FORBIDDEN = {"builtins.bytearray", "collections.Counter"}


class DamagedCheckpointError(FacekitError):
    """A file that was a checkpoint once, or was to become one."""


class Inert:
    """In the place of an object that is no weights, such as a run's arguments: nothing of it is kept."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class _Dtype(Inert):
    """NumPy's type of a scalar."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code, self.order = str(code)[:4], "<"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]


_FORMATS = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H",
    "u1": "B", "b1": "?",
}  # fmt: skip


def _scalar(dtype: Any = None, data: Any = b"") -> Any:
    """A number of NumPy's as a number of Python's; nothing for types that are none."""
    if not (isinstance(dtype, _Dtype) and dtype.code in _FORMATS and isinstance(data, bytes)):
        return None
    kind = dtype.order + _FORMATS[dtype.code]
    return struct.unpack(kind, data)[0] if len(data) == struct.calcsize(kind) else None


class _Text:
    """A text of a type of its own, as text."""

    def __new__(cls, value: Any = "", *_: Any) -> str:  # type: ignore[misc]
        return value[:1000] if isinstance(value, str) else ""


def _mapping(*_: Any) -> dict[Any, Any]:
    return {}


_PATHS = ("PosixPath", "WindowsPath", "Path", "PurePosixPath", "PureWindowsPath", "PurePath")
# What other programs like to keep beside weights, and what is put in its place. Nothing here imports or calls theirs.
_HARMLESS: dict[str, Callable[..., Any]] = {
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.dtype": _Dtype,
    "torch.torch_version.TorchVersion": _Text,
    "collections.defaultdict": _mapping,
    "argparse.Namespace": Inert,
    "types.SimpleNamespace": Inert,
    "datetime.datetime": Inert,
    "datetime.date": Inert,
    "datetime.timedelta": Inert,
    **{f"{module}.{name}": Inert for module in ("pathlib", "pathlib._local") for name in _PATHS},
    **{
        f"{module}.{name}": Inert for module in ("builtins", "__builtin__") for name in ("list", "dict", "int", "float")
    },
}


def read_torch_file(path: Path) -> Any:
    """torch.load that can't execute code, and looks at all that it loads.

    Objects that are no weights and harmless are left out (as `Inert`). Raises FacekitError for a file that is missing,
    or holds what safe loading refuses; DamagedCheckpointError for one that is cut off, no checkpoint at all, or whose
    tensors are not what they claim.
    """
    with open_file(path, MAX_BYTES, "Check the path.") as file:
        head = file.read(HEAD_BYTES)
        if (what := stand_in(head)) is not None:
            raise DamagedCheckpointError(f"{path}: is {what}.")
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        data, names = b"", set[str]()
        try:
            data = _pickle_of_zip(file, path, size) if head[:2] == b"PK" else file.read(MAX_PICKLE_BYTES)
            names = _classes(data)
            _refuse_forbidden(names, path)
            file.seek(0)
            content = _load(file, names & set(_HARMLESS))
        except FacekitError:
            raise
        except Exception as error:  # a damaged file trips torch in any way, from EINVAL at a seek to IndexError
            raise _refusal(error, path, size, _is_broken_off(data, names)) from error
    look_through(content, path, size)
    return content


def _pickle_of_zip(file: IO[bytes], path: Path, size: int) -> bytes:
    """The archive's description of its tensors; the archive is measured before anything of it is unpacked."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > MAX_UNPACKED * size + (1 << 20):
            raise FacekitError(f"{path}: {size} bytes that unpack to {unpacked}: no checkpoint.")
        inner = {entry.filename.partition("/")[2] or entry.filename: entry for entry in entries}
        if "constants.pkl" in inner:
            raise FacekitError(
                f"{path}: is a TorchScript archive, which is code. Where it was made, save its weights alone: "
                f"torch.save(torch.jit.load(...).state_dict(), 'weights.pth')."
            )
        if "data.pkl" not in inner:
            some = ", ".join(shown(name, 30) for name in sorted(inner)[:3]) or "nothing"
            raise FacekitError(f"{path}: is a zip archive that torch.save did not write (it holds {some}).")
        if inner["data.pkl"].file_size > MAX_PICKLE_BYTES:
            raise FacekitError(
                f"{path}: describes its tensors in {inner['data.pkl'].file_size} bytes, more than the limit of "
                f"{MAX_PICKLE_BYTES}: no checkpoint."
            )
        return archive.read(inner["data.pkl"])


def _classes(data: bytes) -> set[str]:
    """module.name of all that the pickles at the start of the data would import."""
    found, stream = set(), io.BytesIO(data)
    try:
        while stream.tell() < len(data):
            for operation, argument, _ in pickletools.genops(stream):
                if operation.name in ("GLOBAL", "INST"):
                    found.add(re.sub(r"^__builtin__\.", "builtins.", str(argument).replace(" ", ".", 1)))
    except Exception:  # behind the pickles come the numbers; damaged ones are torch's to refuse
        pass
    return found


def _refuse_forbidden(names: set[str], path: Path) -> None:
    if refused := names & _FORBIDDEN:
        raise FacekitError(f"{path}: holds a {min(refused)}, which no checkpoint needs. Save the state_dict alone.")


def _load(file: IO[bytes], harmless: set[str]) -> Any:
    allowed: list[Any] = [(_HARMLESS[name], name) for name in sorted(harmless)]
    with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
        warnings.simplefilter("ignore")  # torch's, about how the file was pickled
        return torch.load(file, map_location="cpu", weights_only=True)


def _is_broken_off(data: bytes, names: set[str]) -> bool:
    """Whether it is no pickle from end to end, and imports nothing that torch.save doesn't: not made to be refused."""
    try:
        for _ in pickletools.genops(data):
            pass
    except Exception:  # ValueError mostly; damaged numbers trip it in other ways
        return all(name in _HARMLESS or name.startswith(("torch.", "collections.")) for name in names)
    return False


def _refusal(error: Exception, path: Path, size: int, is_broken_off: bool) -> FacekitError:
    """What to say of a file that torch would not load."""
    text = str(error)
    if match := re.search(r"global: GLOBAL (\S+) was not an allowed|unsupported GLOBAL (\S+) whose module", text):
        name = shown(match[1] or match[2])
        return FacekitError(
            f"{path}: holds an object of the type {name}, which can't be loaded safely, as building it could run code. "
            f"{SAVE_ALONE}"
        )
    if re.search(r"Unsupported operand \d+", text) and not is_broken_off:
        return FacekitError(f"{path}: was pickled in a way that can't be loaded safely. {SAVE_ALONE}")
    return DamagedCheckpointError(
        f"{path}: not a checkpoint that can be loaded safely ({size} bytes): cut off, damaged, or not made by "
        f"torch.save. {BRING_AGAIN}"
    )


def look_through(content: Any, path: Path, size: int) -> None:
    """Raises DamagedCheckpointError for the first tensor that is not dense, real and backed by as many numbers as its
    shape says, and for more values than any checkpoint has. size: the file's, in bytes."""
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    values = text = numbers = 0
    storages: dict[int, tuple[str, int, int]] = {}  # where -> a tensor's name, bytes there, bytes used by tensors
    while waiting:
        name, value, depth = waiting.pop()
        values += 1
        if isinstance(value, Tensor):
            _check_tensor(value, name, path)
            used = value.numel() * value.element_size()
            numbers += used
            storage = value.untyped_storage()
            before = storages.get(storage.data_ptr(), (name, storage.nbytes(), 0))
            storages[storage.data_ptr()] = (*before[:2], before[2] + used)
        elif isinstance(value, dict):
            for key, item in value.items():
                text += len(key) if isinstance(key, str) else 0
                waiting.append((f"{name}.{shown(key, 100)}" if name else shown(key, 100), item, depth + 1))
        elif isinstance(value, list | tuple | set):
            waiting += [(f"{name}[{index}]", item, depth + 1) for index, item in enumerate(value)]
        elif isinstance(value, str | bytes):
            text += len(value)
        if max(values, len(waiting)) > MAX_VALUES or text > MAX_TEXT or depth > MAX_DEPTH:
            raise DamagedCheckpointError(f"{path}: {shown(name)}: more values than any checkpoint has. {BRING_AGAIN}")
        if numbers > MAX_UNPACKED * size + (1 << 20):
            raise DamagedCheckpointError(
                f"{path}: {name}: more numbers than a file of {size} bytes holds. {BRING_AGAIN}"
            )
    for name, held, used in storages.values():
        if held > 4 * used + 4096:
            raise DamagedCheckpointError(
                f"{path}: {name}: {used} bytes by its shape, with a storage of {held} bytes behind them. Save a "
                f"copy of it: tensor.clone()."
            )


def _check_tensor(tensor: Tensor, name: str, path: Path) -> None:
    problem = None
    if type(tensor) not in (Tensor, nn.Parameter):
        problem = f"is a {type(tensor).__name__}"
    elif tensor.is_nested:
        problem = "is a nested tensor"
    elif tensor.layout != torch.strided:
        problem = f"is sparse ({tensor.layout})"
    elif tensor.is_meta:
        problem = "is a meta tensor, a shape without numbers"
    elif tensor.is_quantized or tensor.dtype not in DTYPES:
        problem = f"is of the type {tensor.dtype}"
    elif tensor.device.type != "cpu":
        problem = f"is on {tensor.device}"
    if problem is not None:
        raise DamagedCheckpointError(
            f"{path}: {name}: {problem}; expected a dense tensor of real numbers. Save it as one: tensor.to_dense(), "
            f".dequantize(), .float()."
        )
    needed, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if needed > held:
        raise DamagedCheckpointError(
            f"{path}: {name}: {tuple(tensor.shape)} asks for {needed} bytes, its storage holds {held} (an expanded "
            f"tensor). Save a copy of it: tensor.clone()."
        )
