"""The table of targets, and what files of several parts are."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest

from facekit.base.extras import PACKAGES, install_line
from facekit.errors import FacekitError
from facekit.targets import open_backend
from facekit.targets.table import DEFAULT_FORMATS, FORMATS, TARGETS, find_format, main_file, target_of
from facekit.targets.table import files_of as parts_of

BASE = ("onnxruntime", "cv2")  # that every install has


def test_packages_are_known_to_the_extras() -> None:
    for target in TARGETS.values():
        assert set(target.needed_to_write) <= {*PACKAGES, *BASE}, target.name


def test_names_of_files_are_of_one_format_each() -> None:
    names = [name for target in TARGETS.values() for name in target.files]
    assert len(names) == len(set(names))
    assert set(DEFAULT_FORMATS) <= set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_both_ends_are_where_the_table_says(name: str) -> None:
    target = TARGETS[name]
    module = importlib.import_module(f"facekit.targets.{target.module}")
    assert callable(module.write)
    assert callable(getattr(module, "open_weights", None)) == target.runs


def test_unknown_format_has_its_nearest() -> None:
    with pytest.raises(FacekitError, match=r"there is no format 'onxn'. Did you mean onnx\? Expected some of onnx, "):
        find_format("onxn")


def test_install_line_names_each_extra_once() -> None:
    assert install_line(["onnx", "onnxscript", "openvino"]) == 'pip install "facekit[export,openvino]"'
    assert install_line([]) == ""


class TestBin:
    """.bin is OpenVINO's and ncnn's."""

    @pytest.mark.parametrize("suffix", [".xml", ".param"])
    def test_known_by_what_lies_beside(self, tmp_path: Path, suffix: str) -> None:
        weights, main = tmp_path / "a.bin", tmp_path / f"a{suffix}"
        main.touch()
        assert main_file(weights) == main_file(main) == main
        assert parts_of(weights) == parts_of(main) == [main, weights]

    def test_alone_is_openvinos_whose_xml_is_missed(self, tmp_path: Path) -> None:
        (tmp_path / "a.bin").touch()
        with pytest.raises(FacekitError, match=r"a\.xml"):
            open_backend(tmp_path / "a.bin")

    def test_both_beside_it_are_asked_for(self, tmp_path: Path) -> None:
        for suffix in (".bin", ".xml", ".param"):
            (tmp_path / f"a{suffix}").touch()
        with pytest.raises(FacekitError, match=r"a\.bin: a\.xml and a\.param lie beside it"):
            open_backend(tmp_path / "a.bin")
        assert target_of(tmp_path / "a.xml") is TARGETS["openvino"]


def test_every_row_has_its_file() -> None:
    for target in TARGETS.values():
        assert importlib.util.find_spec(f"facekit.targets.{target.module}") is not None, target.name
