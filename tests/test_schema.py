from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facekit.errors import FacekitError
from facekit.schema import MAX_YAML_BYTES, Section, read_yaml


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
        assert ":10: pirce: unknown key" in text
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
        assert ":10: name: given twice" in complaint(path)

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
            ("climate", "{kind: mild}", "'kind' is one of warm, cold"),
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
        assert "No such file" in complaint(tmp_path / "none.yaml")

    def test_folder(self, tmp_path: Path) -> None:
        assert "Is a directory" in complaint(tmp_path)

    def test_not_text(self, tmp_path: Path) -> None:
        path = tmp_path / "car.yaml"
        path.write_bytes(b"name: \xff\xfe")
        assert "not UTF-8 text (byte 6)" in complaint(path)

    def test_too_large(self, tmp_path: Path) -> None:
        path = tmp_path / "car.yaml"
        path.write_text("#" * (MAX_YAML_BYTES + 1))
        assert "too large" in complaint(path)

    @pytest.mark.parametrize("text", ["name: [1,\nfuel: petrol\n", "name: a\n\tfuel: b\n", "name: a: b\n"])
    def test_bad_yaml_names_the_line(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "car.yaml"
        path.write_text(text)
        message = complaint(path)
        assert "not valid YAML" in message
        assert "line " in message

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
