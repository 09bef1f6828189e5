"""ncnn's files are looked at before ncnn trusts the numbers in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from facekit.errors import FacekitError
from facekit.weights.ncnn_file import check_ncnn_files

GOOD = """7767517
3 3
Input                    in0                      0 1 in0
Convolution              conv_1                   1 1 in0 1 0=4 1=3 11=3 5=1 6=108
Pooling                  pool_2                   1 1 1 out0 0=0 1=2 2=2
"""
BYTES = 4 + 4 * 108 + 4 * 4  # a flag, weights, biases


def network(folder: Path, text: str = GOOD, size: int = BYTES) -> Path:
    (folder / "a.param").write_text(text)
    (folder / "a.bin").write_bytes(bytes(size))
    return folder / "a.param"


def test_both_files_by_either_name(tmp_path: Path) -> None:
    path = network(tmp_path)
    assert check_ncnn_files(path) == check_ncnn_files(path.with_suffix(".bin"))
    assert check_ncnn_files(path).outputs == 1


def test_sizes_that_are_worked_out(tmp_path: Path) -> None:
    text = GOOD.replace("0=0 1=2 2=2", '6="0h,0n"')
    assert check_ncnn_files(network(tmp_path, text)).outputs == 1
    with pytest.raises(FacekitError):
        check_ncnn_files(network(tmp_path, text.replace("0h", "0h;x")))


def test_shuffled_channels(tmp_path: Path) -> None:
    """face-detection-0207's. ncnn divides by the groups, and by what is left of the channels in reverse."""
    text = GOOD.replace("Pooling ", "ShuffleChannel ").replace("0=0 1=2 2=2", "0=2 1=0")
    assert check_ncnn_files(network(tmp_path, text)).outputs == 1
    for bad in ("0=0 1=0", "0=-1 1=0", "0=2 1=1"):
        assert "a.param" in complaint(network(tmp_path, text.replace("0=2 1=0", bad)))


def complaint(path: Path) -> str:
    with pytest.raises(FacekitError) as caught:
        check_ncnn_files(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


@pytest.mark.parametrize("size", [0, BYTES - 1, BYTES + 1, 10 * BYTES])
def test_bin_of_another_size(tmp_path: Path, size: int) -> None:
    assert f"a.bin: {size} bytes, a.param describes {BYTES}" in complaint(network(tmp_path, size=size))


@pytest.mark.parametrize("missing", ["a.param", "a.bin"])
def test_one_of_the_two_is_missing(tmp_path: Path, missing: str) -> None:
    path = network(tmp_path)
    (tmp_path / missing).unlink()
    assert missing in complaint(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("7767517", "7767518"), ("3 3", "9999999 3"), ("3 3", "3 4"), ("3 3", "3"), ("3 3", "-3 3"), ("3 3", "x y"),
        ("6=108", "6=999999999999"), ("6=108", "6=-1"), ("6=108", "6=nan"), ("0=4", "0=0"), ("0=4", "0=4 0"),
        ("1 1 in0 1 ", "1 1 in9 1 "), ("1 1 in0 1 ", "70 1 in0 1 "), ("1 1 in0 1 ", "1 -1 in0 1 "),
        ("1 1 1 out0", "1 1 1 in0"), ("1 1 1 out0", "1 1 1 end"), ("0 1 in0", "0 1 start"), ("Pooling ", "Python "),
        ("Pooling ", "Embed "), ("Pooling                  pool_2                   1 1 1 out0 0=0 1=2 2=2\n", ""),
    ],
)  # fmt: skip
def test_damaged_or_foreign(tmp_path: Path, old: str, new: str) -> None:
    assert old in GOOD
    assert "a.param" in complaint(network(tmp_path, GOOD.replace(old, new)))


def test_a_constant_larger_than_the_memory(tmp_path: Path) -> None:
    text = GOOD.replace("3 3\n", "4 4\n") + "MemoryData c 0 1 c 0=60000 1=60000 2=60000\n"
    assert "a.param" in complaint(network(tmp_path, text))


def test_something_else(tmp_path: Path) -> None:
    assert "web page" in complaint(network(tmp_path, "<html>"))
