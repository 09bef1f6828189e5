from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekit.errors import FacekitError
from facekit.records.evaluation import (
    CalibrationBin,
    Crop,
    CurvePoints,
    EvaluationRecord,
    GroupRow,
    Metric,
    ThresholdRow,
    from_json,
    to_json,
)

RECORD = EvaluationRecord(
    detector="yunet-n",
    summary="Small.",
    weights="snapshot.pth",
    weights_sha256="ab" * 32,
    runtime="pth",
    protocol="own size; score 0.02",
    sets=("12 labelled pictures", "566 WIDER pictures"),
    measured_at="2026-11-22 09:30 UTC",
    versions={"facekit": "0.2.0"},
    machine="2 cores",
    metrics=(Metric("ap", "AP", "%", 34.5), Metric("size", "Size", "Mp", 0.076)),
    published={"ap": 34.0},
    curves=(CurvePoints("easy", (0.0, 0.5, 0.9), (1.0, 0.95, 0.4), 0.86),),
    groups=(GroupRow("event", "Parade", 12, 71.25),),
    calibration=(CalibrationBin(0.9, 1.0, 7, 0.95, 0.8571),),
    published_note="of another set",
    thresholds=(ThresholdRow(0.5, 90.0, 80.0, 84.7, 0.25, True), ThresholdRow(0.9, math.nan, 0.0, 0.0, 0.0, False)),
)


def same(one: Any, other: Any) -> bool:
    """Equality under which NaN is NaN."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, tuple | list):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


def same_record(one: EvaluationRecord, other: EvaluationRecord) -> bool:
    return same(dataclasses.asdict(one), dataclasses.asdict(other))


def there_and_back(record: EvaluationRecord) -> EvaluationRecord:
    return from_json(to_json(record), "page.html")


class TestRoundTrip:
    def test_everything_but_the_crops(self) -> None:
        crop = Crop("miss", "a.jpg", (1.0, 2.0, 3.0, 4.0), 0.5, b"\xff\xd8")
        assert same_record(there_and_back(dataclasses.replace(RECORD, crops=(crop,))), RECORD)

    def test_nothing_measured(self) -> None:
        bare = dataclasses.replace(
            RECORD, metrics=(), published={}, curves=(), groups=(), calibration=(), sets=(), thresholds=()
        )
        assert there_and_back(bare) == bare

    def test_not_a_number_is_null(self) -> None:
        nan = math.nan
        record = dataclasses.replace(
            RECORD,
            metrics=(Metric("ap", "AP", "%", nan),),
            curves=(CurvePoints("hard", (0.0, nan), (nan, 1.0), nan),),
            groups=(GroupRow("event", "Riot", 0, nan),),
            calibration=(CalibrationBin(0.0, 0.1, 0, nan, nan),),
        )
        text = to_json(record)
        assert "NaN" not in text
        assert json.loads(text)["metrics"][0]["value"] is None
        assert same(dataclasses.asdict(from_json(text, "page.html")), dataclasses.asdict(record))

    def test_infinity_is_null_too(self) -> None:
        record = dataclasses.replace(RECORD, metrics=(Metric("latency_p50", "Latency", "ms", math.inf),))
        assert math.isnan(there_and_back(record).metrics[0].value)

    def test_file_names_that_are_no_utf8(self) -> None:
        record = dataclasses.replace(RECORD, weights="best\udcff.pth", machine="Ünïcode </script> \u2028 \1")
        to_json(record).encode("ascii")
        assert same_record(there_and_back(record), record)

    @given(
        text=st.text(
            st.characters(codec="utf-8", exclude_characters="\0")
            | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
        ),
        value=st.floats(allow_infinity=False),
        points=st.lists(st.floats(0, 1), max_size=20),
        faces=st.integers(0, 10**9),
    )
    def test_any_values(self, text: str, value: float, points: list[float], faces: int) -> None:
        record = dataclasses.replace(
            RECORD,
            detector=text,
            metrics=(Metric(text, text, text, value),),
            curves=(CurvePoints(text, tuple(points), tuple(reversed(points)), value),),
            groups=(GroupRow("event", text, faces, value),),
            published={text: value},
        )
        assert same(dataclasses.asdict(there_and_back(record)), dataclasses.asdict(record))


def changed(change: Callable[[dict[str, Any]], Any]) -> str:
    content = copy.deepcopy(json.loads(to_json(RECORD)))
    change(content)
    return json.dumps(content)


def put(*path: str | int, value: Any) -> str:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return changed(change)


class TestMalformed:
    @pytest.mark.parametrize(
        "text",
        [
            "", "null", "1", '"text"', "[]", "[1]", "{}", "{", "\0", "NaN", "[" * 100_000, '{"a":' * 100_000,
            '{"facekit_evaluation": 1}', '{"facekit_evaluation": null}',
            '{"facekit_evaluation": 1, "metrics": [], "curves": [], "groups": [], "calibration": []}',
        ],
    )  # fmt: skip
    def test_something_else(self, text: str) -> None:
        with pytest.raises(FacekitError, match=r"page\.html: holds no evaluation .* --report"):
            from_json(text, "page.html")

    @pytest.mark.parametrize(
        "name",
        [part.name for part in dataclasses.fields(EvaluationRecord)
         if part.default is part.default_factory is dataclasses.MISSING],
    )  # fmt: skip
    def test_a_part_is_missing(self, name: str) -> None:
        with pytest.raises(FacekitError, match=name):
            from_json(changed(lambda content: content.pop(name)), "page.html")

    @pytest.mark.parametrize(
        "text",
        [
            put("facekit_evaluation", value=2),
            put("facekit_evaluation", value="1"),
            put("detector", value=None),
            put("detector", value=["yunet-n"]),
            put("protocol", value=5),
            put("sets", value="one"),
            put("sets", value=[1]),
            put("sets", value=None),
            put("versions", value=["0.2.0"]),
            put("versions", "facekit", value=2),
            put("published", value=[]),
            put("published", "ap", value="much"),
            put("metrics", value={}),
            put("metrics", value="ap"),
            put("metrics", value=[None]),
            put("metrics", value=[[]]),
            put("metrics", 0, "value", value="34.5"),
            put("metrics", 0, "value", value=True),
            put("metrics", 0, "value", value=[1.0]),
            put("metrics", 0, "value", value=10**400),
            put("metrics", 0, "key", value=None),
            put("curves", 0, "recall", value="0.5"),
            put("curves", 0, "recall", value=[0.5]),
            put("curves", 0, "precision", value=["a", "b", "c"]),
            put("groups", 0, "faces", value=1.5),
            put("groups", 0, "faces", value=None),
            put("groups", 0, "ap", value={}),
            put("calibration", 0, "detections", value="7"),
            put("metrics", 0, "value", value=1.25).replace("1.25", "Infinity"),
            put("metrics", 0, "value", value=1.25).replace("1.25", "1e999"),
            put("metrics", 0, "value", value=1.25).replace("1.25", "9" * 5000),
        ],
    )
    def test_a_value_of_another_type(self, text: str) -> None:
        with pytest.raises(FacekitError, match=r"page\.html: holds no evaluation"):
            from_json(text, "page.html")

    def test_unknown_keys_are_left_alone(self) -> None:
        assert same_record(from_json(put("later", value=1), "page.html"), RECORD)

    def test_crops_in_json_are_not_read(self) -> None:
        assert same_record(from_json(put("crops", value=[{"jpeg": "x"}]), "page.html"), RECORD)

    def test_pages_of_facekit_0_4_are_read(self) -> None:
        text = changed(lambda content: (content.pop("thresholds"), content.pop("published_note")))
        old = from_json(text, "page.html")
        assert (old.thresholds, old.published_note, old.metrics) == ((), "", RECORD.metrics)

    def test_truncated(self) -> None:
        text = to_json(RECORD)
        for end in range(0, len(text), 37):
            with pytest.raises(FacekitError, match="holds no evaluation"):
                from_json(text[:end], "page.html")

    def test_huge(self) -> None:
        with pytest.raises(FacekitError, match=r"holds no evaluation \(over 2097152 characters"):
            from_json(changed(lambda content: content.update(later="x" * (3 << 20))), "page.html")

    def test_the_key_is_named(self) -> None:
        with pytest.raises(FacekitError, match=r"evaluation\.metrics\[1\]\.value: expected a number, got"):
            from_json(put("metrics", 1, "value", value="much"), "page.html")

    @given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner)
                        | st.dictionaries(st.text(), inner), max_leaves=10),
           st.sampled_from([part.name for part in dataclasses.fields(EvaluationRecord)]))  # fmt: skip
    def test_anything_in_any_place_is_read_or_refused(self, value: Any, name: str) -> None:
        try:
            from_json(put(name, value=value), "page.html")
        except FacekitError as error:
            assert str(error).startswith("page.html: ")


class TestMetric:
    def test_for_people_and_for_files(self) -> None:
        assert Metric("ap", "AP", "%", 34.5678).text(2) == "34.57"
        assert Metric("ap", "AP", "%", 34.5678).rounded() == 34.568
        assert Metric("ap", "AP", "%", math.nan).text(2) == "n/a"
        assert Metric("ap", "AP", "%", math.nan).rounded() is None

    def test_rule_is_the_protocol_without_sets_and_runtime(self) -> None:
        assert RECORD.rule == RECORD.protocol
        whole = f"{RECORD.protocol}; {', '.join(RECORD.sets)}; pth"
        assert dataclasses.replace(RECORD, protocol=whole).rule == RECORD.protocol

    def test_found_by_key(self) -> None:
        assert RECORD.metric("size") == RECORD.metrics[1]
        assert RECORD.metric("nme") is None
