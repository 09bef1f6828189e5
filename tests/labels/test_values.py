"""Ids and flags by value."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest

from facekit.labels.values import ById, as_flag, as_number, as_whole, face_names, kinds_to_read


@pytest.mark.parametrize(
    ("value", "whole"),
    [(27, 27), (27.0, 27), ("27", 27), (" 27 ", 27), ("27.0", 27), ("0", 0), (True, 1), ("-3", -3), (1.5, None),
     ("1.5", None), ("x", None), ("", None), (None, None), ([1], None), (math.nan, None), (math.inf, None),
     (10**30, None), ("9" * 5000, None), ("٣", None), ("1_0", None)],
)  # fmt: skip
def test_whole(value: Any, whole: int | None) -> None:
    assert as_whole(value) == whole


@pytest.mark.parametrize(
    ("value", "flag"),
    [(0, False), (1, True), ("0", False), ("1", True), (False, False), (True, True), (0.0, False), (1.0, True),
     ("false", False), ("True", True), (" no ", False), ("yes", True), ("", False), (None, False), ("1.0", True),
     ("on", True), ("Off", False),
     (2, None), ("maybe", None), ([], None), ({}, None), (math.nan, None)],
)  # fmt: skip
def test_flag(value: Any, flag: bool | None) -> None:
    assert as_flag(value) is flag


def test_number() -> None:
    assert (as_number("1e2"), as_number(3), as_number("x"), as_number(True)) == (100.0, 3.0, None, None)
    assert as_number(10**400) == math.inf and as_number(-(10**400)) == -math.inf


class TestById:
    def test_as_written_first(self) -> None:
        ids = ById({1: "number", "1": "text", "007": "bond"})
        assert (ids.find(1), ids.find("1"), ids.find("007"), ids.otherwise) == (1, "1", "007", 0)
        assert ids.find("1.0") is None  # which of the two?
        assert (ids.find(7), ids.otherwise, ids.first_otherwise) == ("007", 1, 7)

    def test_floats_are_no_other_writing(self) -> None:
        ids = ById({1: "a", 2.0: "b"})
        assert (ids.find(1.0), ids.find(2), ids.find(True), ids.otherwise) == (1, 2.0, 1, 0)
        assert (ids.find(None), ids.find([1]), ids.find(1.5), ids.find("x")) == (None,) * 4


def test_face_names() -> None:
    assert face_names({"Face", "car"}) == {"Face"}
    assert face_names({"faces", "face"}) == {"face"}  # Roboflow's group of all classes
    assert face_names({"human_face", "dog"}) == {"human_face"}
    assert face_names({"Human face", "human-face"}) == {"Human face", "human-face"}
    assert face_names({"head", "person"}) == set()


@pytest.mark.parametrize(
    ("name", "is_said"), [("car", True), ("Human_Face", False), ("face-with-mask", False), ("0", False)]
)
def test_the_only_kind_is_read_but_said(name: str, is_said: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "facekit"):
        assert kinds_to_read([name, name], "labels.xml") == {name}
    assert [record.getMessage() for record in caplog.records] == (
        [f"labels.xml: the only kind of object is called {name!r}: it is read as faces. Are they?"] if is_said else []
    )
