from __future__ import annotations

import os
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facekit.base.schema import MAX_YAML_BYTES, Length, Range, Section, from_plain, plain_data, read_yaml
from facekit.errors import FacekitError


@dataclass(frozen=True)
class Warm:
    kind: Literal["warm"]
    degrees: float


@dataclass(frozen=True)
class Cold:
    kind: Literal["cold"]


@dataclass(frozen=True)
class Engine:
    power: float
    gears: int

    def __post_init__(self) -> None:
        if self.gears < 1:
            raise ValueError("gears must be 1 or more.")


@dataclass(frozen=True)
class Car:
    name: str
    fuel: Literal["petrol", "electric"]
    electric: bool
    engine: Engine
    size_hw: tuple[int, int]
    speeds: tuple[float, ...]
    price: float | None
    climate: Warm | Cold
    options: Section
    doors: Literal[2, 4]


LINES = {
    "name": "beetle",
    "fuel": "petrol",
    "electric": "false",
    "engine": "{power: 5e-4, gears: 4}",
    "size_hw": "[2, 3]",
    "speeds": "[1, 2.5, 3e2]",
    "price": "null",
    "climate": "{kind: warm, degrees: 21}",
    "options": "{power: 1, gears: 5}",
    "doors": "2",
}


def write(folder: Path, **changed: str) -> Path:
    """A car's YAML, one key a line in the order of LINES."""
    path = folder / "car.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in (LINES | changed).items()), encoding="utf-8")
    return path


def complaint(path: Path) -> str:
    with pytest.raises(FacekitError) as caught:
        read_yaml(path, Car)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


class TestGood:
    def test_all_kinds(self, tmp_path: Path) -> None:
        car = read_yaml(write(tmp_path), Car)
        assert car.engine == Engine(power=0.0005, gears=4)
        assert (car.name, car.fuel, car.electric, car.price) == ("beetle", "petrol", False, None)
        assert (car.size_hw, car.speeds) == ((2, 3), (1.0, 2.5, 300.0))
        assert car.climate == Warm("warm", 21.0)

    def test_other_member_of_a_union(self, tmp_path: Path) -> None:
        assert read_yaml(write(tmp_path, climate="{kind: cold}"), Car).climate == Cold("cold")

    def test_section_is_read_later(self, tmp_path: Path) -> None:
        assert read_yaml(write(tmp_path), Car).options.parse(Engine) == Engine(1.0, 5)

    @pytest.mark.parametrize("text", ["5e-4", "5.0e-4", "0.0005", "5E-4", "'5e-4'"])
    def test_small_numbers(self, tmp_path: Path, text: str) -> None:
        assert read_yaml(write(tmp_path, price=text), Car).price == 0.0005

    def test_whole_number_where_a_number_is_wanted(self, tmp_path: Path) -> None:
        price = read_yaml(write(tmp_path, price="7"), Car).price
        assert price == 7.0
        assert isinstance(price, float)

    @given(st.floats(allow_nan=False, allow_infinity=False))
    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_number_round_trips(self, tmp_path: Path, value: float) -> None:
        assert read_yaml(write(tmp_path, price=repr(value)), Car).price == value


class TestKeys:
    def test_unknown(self, tmp_path: Path) -> None:
        text = complaint(write(tmp_path, pirce="3"))
        assert ":11: pirce: unknown key" in text
        assert "did you mean 'price'" in text
        assert "size_hw" in text  # among the valid keys

    def test_unknown_inside(self, tmp_path: Path) -> None:
        text = complaint(write(tmp_path, engine="{power: 1, gears: 4, gear: 5}"))
        assert ":4: engine.gear: unknown key; did you mean 'gears'" in text

    def test_missing(self, tmp_path: Path) -> None:
        path = write(tmp_path)
        path.write_text(path.read_text().replace("name: beetle\n", "").replace("fuel: petrol\n", ""))
        text = complaint(path)
        assert ":1: top level: missing key name, fuel" in text

    def test_missing_inside(self, tmp_path: Path) -> None:
        assert ":4: engine: missing key gears" in complaint(write(tmp_path, engine="{power: 1}"))

    def test_doubled(self, tmp_path: Path) -> None:
        path = write(tmp_path)
        path.write_text(path.read_text() + "name: again\n")
        assert ":11: name: given twice" in complaint(path)

    def test_doubled_inside(self, tmp_path: Path) -> None:
        assert ":4: engine.power: given twice" in complaint(write(tmp_path, engine="{power: 1, power: 2, gears: 4}"))

    def test_section_complains_with_its_place(self, tmp_path: Path) -> None:
        path = write(tmp_path, options="{power: 1, gaers: 5}")
        with pytest.raises(FacekitError, match=r":9: options\.gaers: unknown key; did you mean 'gears'") as caught:
            read_yaml(path, Car).options.parse(Engine)
        assert str(path) in str(caught.value)

    def test_merge_inherits_nothing(self, tmp_path: Path) -> None:
        assert "engine.<<: unknown key" in complaint(write(tmp_path, engine="{<<: {power: 1}, gears: 4}"))


class TestTypes:
    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("name", "[a]", "expected text, got a list"),
            ("name", "12", "expected text, got '12'"),
            ("fuel", "wood", "expected one of petrol, electric, got 'wood'"),
            ("doors", "3", "expected one of 2, 4, got '3'"),
            ("doors", "2.0", "expected one of 2, 4, got '2.0'"),
            ("doors", "true", "expected one of 2, 4, got 'true'"),
            ("electric", "1", "expected true or false, got '1'"),
            ("engine", "fast", "expected a mapping with the keys power, gears"),
            ("engine", "{power: strong, gears: 4}", "engine.power: expected a number, got 'strong'"),
            ("engine", "{power: true, gears: 4}", "engine.power: expected a number, got 'true'"),
            ("engine", "{power: 1, gears: 4.5}", "engine.gears: expected a whole number, got '4.5'"),
            ("engine", "{power: 1, gears: true}", "engine.gears: expected a whole number, got 'true'"),
            ("engine", "{power: null, gears: 4}", "engine.power: expected a number, got 'null'"),
            ("engine", "{power: 1, gears: 0}", "engine: gears must be 1 or more"),
            ("size_hw", "2", "expected a list"),
            ("size_hw", "[1, 2, 3]", "expected 2 entries, got 3"),
            ("size_hw", "[1, b]", "size_hw[1]: expected a whole number, got 'b'"),
            ("climate", "{kind: mild}", "'kind' is one of warm, cold, got 'mild'."),
            ("climate", "{kind: wram}", "'kind' is one of warm, cold, got 'wram'. Did you mean warm?"),
            ("climate", "{kind: [warm]}", "'kind' is one of warm, cold."),
            ("climate", "warm", "'kind' is one of warm, cold"),
            ("climate", "{kind: cold, degrees: 3}", "climate.degrees: unknown key"),
        ],
    )
    def test_wrong(self, tmp_path: Path, key: str, value: str, expected: str) -> None:
        text = complaint(write(tmp_path, **{key: value}))
        assert f":{list(LINES).index(key) + 1}: {key}" in text
        assert expected in text

    @pytest.mark.parametrize("value", ["nan", ".nan", "inf", ".inf", "-.inf", "1" + "0" * 400])
    def test_number_must_be_finite(self, tmp_path: Path, value: str) -> None:
        assert ":7: price: expected a number" in complaint(write(tmp_path, price=value))

    @pytest.mark.parametrize(
        "value", ["!thing x", "!!int x", "!!python/object:os.system x", "2001-99-99", "!!timestamp x", "!!bool x"]
    )
    def test_tags_and_dates_that_cannot_be_read(self, tmp_path: Path, value: str) -> None:
        assert ":1: name: expected text" in complaint(write(tmp_path, name=value))


class TestFiles:
    def test_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "car.yaml"
        path.write_text("")
        text = complaint(path)
        assert "empty" in text
        assert "size_hw" in text

    def test_missing(self, tmp_path: Path) -> None:
        assert "there is no such file" in complaint(tmp_path / "none.yaml")

    def test_folder(self, tmp_path: Path) -> None:
        assert "is a folder, not a file" in complaint(tmp_path)

    def test_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "car.yaml")
        assert "is a pipe, not a file" in complaint(tmp_path / "car.yaml")

    def test_not_text(self, tmp_path: Path) -> None:
        path = tmp_path / "car.yaml"
        path.write_bytes(b"name: \xff\xfe")
        assert "not UTF-8 text (byte 6)" in complaint(path)

    def test_too_large(self, tmp_path: Path) -> None:
        path = tmp_path / "car.yaml"
        path.write_text("#" * (MAX_YAML_BYTES + 1))
        assert "more than the limit of 100000" in complaint(path)

    @pytest.mark.parametrize("text", ["name: [1,\nfuel: petrol\n", "name: a\n\tfuel: b\n", "name: a: b\n"])
    def test_bad_yaml_names_the_line(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "car.yaml"
        path.write_text(text)
        message = complaint(path)
        assert "not valid YAML" in message
        assert "line " in message

    def test_a_pointer_in_its_place(self, tmp_path: Path) -> None:
        path = tmp_path / "car.yaml"
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        assert "car.yaml: is a Git LFS pointer, not the file itself: run `git lfs pull`" in complaint(path)

    def test_two_documents(self, tmp_path: Path) -> None:
        path = write(tmp_path)
        path.write_text(path.read_text() + "---\nname: b\n")
        assert "single document" in complaint(path)

    def test_nested_without_end(self, tmp_path: Path) -> None:
        path = tmp_path / "car.yaml"
        path.write_text("[" * 5000)
        assert "not valid YAML" in complaint(path)

    @pytest.mark.parametrize("text", ["just text", "[1, 2]", "3"])
    def test_no_mapping(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "car.yaml"
        path.write_text(text)
        assert ":1: top level: expected a mapping with the keys name" in complaint(path)

    @given(st.text(alphabet=st.sampled_from("[]{}:-,&*!|>'\"#%@`?abn \n\t0"), max_size=40))
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_whatever_is_written_is_a_clear_message(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "car.yaml"
        path.write_text(text)
        complaint(path)


class TestBombs:
    @pytest.mark.parametrize(
        "text",
        [
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
                f"{new}: &{new} [{', '.join(['*' + old] * 10)}]\n" for old, new in pairwise("abcdefghi")
            ),
            "a: &a [*a]\n",
            "a: &a {b: *a}\n",
        ],
        ids=["a billion", "a list in itself", "a mapping in itself"],
    )  # fmt: skip
    def test_aliases_are_counted_where_they_stand(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "car.yaml"
        path.write_text(text)
        start = time.monotonic()
        assert "too many for a template" in complaint(path)
        assert time.monotonic() - start < 5

    def test_alias_within_reason(self, tmp_path: Path) -> None:
        path = write(tmp_path, speeds="&s [1, 2]", options="*s")
        assert read_yaml(path, Car).speeds == (1, 2)

    @pytest.mark.parametrize("key", ["[1, 2]", "{a: b}", "? [1]\n"])
    def test_key_that_is_no_text(self, tmp_path: Path, key: str) -> None:
        path = tmp_path / "car.yaml"
        path.write_text(f"{key}: 1\n")
        complaint(path)

    @pytest.mark.parametrize("digits", [20, 5000])
    def test_whole_numbers_have_64_bits(self, tmp_path: Path, digits: int) -> None:
        text = complaint(write(tmp_path, size_hw=f"[2, {'9' * digits}]"))
        assert ":5: size_hw[1]: expected a whole number" in text
        assert len(text) < 400


@dataclass(frozen=True)
class Wheel:
    spokes: Annotated[int, Range(1, 100)]
    width: Annotated[float, Range(over=0, most=9)] = 2.5
    makers: Annotated[tuple[Annotated[str, Length(1, 5)], ...], Length(0, 2)] = ()
    grip: Annotated[float, Range(least=0, under=1)] | None = None


class TestRanges:
    def read(self, folder: Path, text: str) -> Wheel:
        (folder / "wheel.yaml").write_text(text)
        return read_yaml(folder / "wheel.yaml", Wheel)

    def test_defaults(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, "spokes: 1") == Wheel(1, 2.5, (), None)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("spokes: 0", ":1: spokes: expected 1 to 100, got 0."),
            ("spokes: 101", ":1: spokes: expected 1 to 100, got 101."),
            ("spokes: 5\nwidth: 0", ":2: width: expected over 0, at most 9, got 0."),
            ("spokes: 5\nwidth: 9.01", ":2: width: expected over 0, at most 9, got 9.01."),
            ("spokes: 5\ngrip: 1", ":2: grip: expected 0 or more, under 1, got 1."),
            ("spokes: 5\nmakers: [a, b, c]", ":2: makers: expected 0 to 2 entries, got 3."),
            ("spokes: 5\nmakers: [a, abcdef]", ":2: makers[1]: expected 1 to 5 characters, got 6"),
            ("width: 5", ":1: top level: missing key spokes;"),
        ],
    )
    def test_outside(self, tmp_path: Path, text: str, expected: str) -> None:
        with pytest.raises(FacekitError) as caught:
            self.read(tmp_path, text)
        assert expected in str(caught.value)

    @pytest.mark.parametrize("text", ["spokes: 1", "spokes: 100", "{spokes: 5, width: 9}", "{spokes: 5, grip: 0}"])
    def test_ends_that_belong(self, tmp_path: Path, text: str) -> None:
        self.read(tmp_path, text)


class TestPlainData:
    def test_round_trip(self) -> None:
        wheel = Wheel(4, 1.5, ("a", "b"), 0.5)
        assert from_plain(Wheel, plain_data(wheel), "wheel") == wheel

    @pytest.mark.parametrize(
        ("value", "complaint"),
        [
            ([], "wheel: expected the keys spokes"),
            ({}, "wheel: spokes missing"),
            ({"spokes": 5, "rim": 1}, "wheel: expected the keys spokes"),
            ({"spokes": 0}, "wheel.spokes: expected 1 to 100, got 0"),
            ({"spokes": True}, "wheel.spokes: expected a whole number, got True"),
            ({"spokes": 1.0}, "wheel.spokes: expected a whole number, got 1.0"),
            ({"spokes": 10**30}, "wheel.spokes: expected a whole number"),
            ({"spokes": 5, "width": float("nan")}, "wheel.width: expected a number, got nan"),
            ({"spokes": 5, "width": 10**400}, "wheel.width: expected a number"),
            ({"spokes": 5, "makers": "ab"}, "wheel.makers: expected tuple"),
            ({"spokes": 5, "makers": [1]}, "wheel.makers[0]: expected text, got 1"),
        ],
    )  # fmt: skip
    def test_wrong(self, value: Any, complaint: str) -> None:
        with pytest.raises(ValueError) as caught:
            from_plain(Wheel, value, "wheel")
        assert str(caught.value).startswith(complaint)

    def test_mapping_and_paths(self) -> None:
        assert from_plain(dict[str, int], {"a": 1}, "x") == {"a": 1}
        assert from_plain(Path, "a/b", "x") == Path("a/b")
        for kind, value in ((dict[str, int], {"a": "b"}), (dict[str, int], {1: 1}), (Path, "a\0b")):
            with pytest.raises(ValueError, match=r"^x"):
                from_plain(kind, value, "x")
