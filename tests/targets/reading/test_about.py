"""What model files say of themselves, and what strangers' files say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from facekit import __version__
from facekit.base.schema import plain_data
from facekit.errors import FacekitError
from facekit.targets.reading.about import (
    About,
    about_export,
    beside,
    parse_about,
    read_beside,
    template_for,
    write_beside,
)
from facekit.template import Template, find_template, load_template

FILE = Path("a.mnn")


@pytest.fixture(scope="module")
def yunet() -> Template:
    return load_template(find_template("yunet-n"))


def test_says_what_the_issue_asks_for(yunet: Template) -> None:
    said = about_export(yunet, None)
    assert (said.template, said.version, said.colour_order, said.layout) == ("yunet-n", __version__, "bgr", "nchw")
    assert (said.size_hw, said.size_multiple, said.strides) == (None, 32, (8, 16, 32))
    assert (said.score_threshold, said.nms_iou_threshold) == (0.02, 0.45)
    assert "BSD-3-Clause" in said.licence
    assert about_export(yunet, (320, 256)).size_hw == (320, 256)


def test_both_ways_to_keep_it_bring_it_back(yunet: Template, tmp_path: Path) -> None:
    said = about_export(yunet, (320, 256))
    assert "\n" not in said.to_json()
    assert parse_about(said.to_json(), FILE) == said
    write_beside(said, tmp_path / "model.mnn")
    assert beside(tmp_path / "model.mnn").name == "model.mnn.facekit.yaml"
    assert read_beside(tmp_path / "model.mnn") == said
    assert read_beside(tmp_path / "other.mnn") is None
    assert parse_about(None, FILE) is None


def changed(**fields: Any) -> str:
    said = plain_data(about_export(load_template(find_template("yunet-n")), None))
    return json.dumps({name: value for name, value in {**said, **fields}.items() if value != "left out"})


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "7", '"yunet-n"', "[" * 5000, " " * 10_001, changed(template=3), changed(template=""),
        changed(template="x" * 301), changed(strides=[]), changed(strides=[0]), changed(strides="8"),
        changed(strides=[8] * 9), changed(size_hw=[1, 1]), changed(size_hw=[99999, 320]), changed(size_hw=[320]),
        changed(score_threshold=2), changed(score_threshold=float("nan")),
        changed(layout="chwn"), changed(colour_order="rgb"), changed(resize="crop"), changed(more=1),
        changed(head={"strides": [8]}), changed(head={}), changed(evaluation={"resize": "crop"}),
        changed(prior_sizes_wh=[[8, 8]]), changed(fed_hw=[0, 1]), changed(licence="left out"),
        changed(size_multiple=0), changed(version="\0"),
    ],
)  # fmt: skip
def test_anything_else_is_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(FacekitError, match=r"^a\.mnn: what it says of itself can't be read: ") as caught:
        parse_about(text, FILE)
    assert parse_about(text, FILE, load_template(find_template("yunet-n"))) is None  # which needs none of it
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    beside(tmp_path / "a.mnn").write_text(text)
    with pytest.raises(FacekitError, match=r"a\.mnn\.facekit\.yaml") as caught:
        read_beside(tmp_path / "a.mnn")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.system ['touch ran']", "a: &a [1]\nb: *a\n", "x" * 200_000, "\udcff"],
    ids=["object", "alias", "long", "no text"],
)
def test_hostile_yaml_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    beside(tmp_path / "a.mnn").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(FacekitError):
        read_beside(tmp_path / "a.mnn")
    assert not (tmp_path / "ran").exists()


class TestTemplate:
    def test_what_is_given_goes_before_what_the_file_says(self, yunet: Template) -> None:
        said = dataclasses.replace(about_export(yunet, None), score_threshold=0.9)
        assert template_for(yunet, said, FILE) is yunet

    def test_another_one_is_given(self, yunet: Template, caplog: pytest.LogCaptureFixture) -> None:
        """Of the same network there are templates for two sizes; a work dir may have a name of its own."""
        named = {name: load_template(find_template(name)) for name in ("yunet-s", "ultralight-rfb-320")}
        with pytest.raises(
            FacekitError, match=r"^a\.mnn: is of the template yunet-n, and yunet-s was given.*`template="
        ):
            template_for(named["yunet-s"], about_export(yunet, None), FILE)
        larger = about_export(load_template(find_template("ultralight-rfb-640")), None)
        assert template_for(named["ultralight-rfb-320"], larger, FILE) is named["ultralight-rfb-320"]
        assert not caplog.records
        own = dataclasses.replace(named["yunet-s"], name="mine")
        assert template_for(own, about_export(yunet, None), FILE) is own
        assert "a.mnn: says that it is of yunet-n, not of the given mine" in caplog.text

    def test_thresholds_are_those_of_the_export(self, yunet: Template) -> None:
        """A work dir's template has the name of the one it was made of, and may differ from it."""
        said = dataclasses.replace(about_export(yunet, None), score_threshold=0.9, nms_iou_threshold=0.3)
        rule = template_for(None, said, FILE).evaluation
        assert (rule.score_threshold, rule.nms_iou_threshold) == (0.9, 0.3)

    def test_the_size_is_that_of_the_export(self) -> None:
        ssd = load_template(find_template("face-detection-0200"))
        said = dataclasses.replace(about_export(ssd, (320, 384)))
        assert template_for(None, said, FILE).input.size_hw == (320, 384)

    def test_what_a_work_dir_changed_comes_back(self, tmp_path: Path) -> None:
        """Priors, the size that pictures are fitted into, and the whole protocol."""
        content = yaml.safe_load(find_template("retinaface-mobilenetv1-0.25-p3").read_text(encoding="utf-8"))
        content["model"]["prior_sizes_wh"][1] = [[80, 80], [160, 160]]
        content["model"]["head"]["cell_offset"] = 0.25
        content["input"]["size_hw"] = [320, 384]
        content["evaluation"] |= {"max_detections": 2, "max_candidates": 50, "nms_union_slack": 0.5}
        (tmp_path / "template.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        edited = load_template(tmp_path / "template.yaml")
        said = parse_about(about_export(edited, None).to_json(), FILE)
        found = template_for(None, said, FILE)
        assert (found.model.prior_sizes_wh, found.model.head) == (edited.model.prior_sizes_wh, edited.model.head)
        assert (found.evaluation, found.input) == (edited.evaluation, edited.input)

    def test_what_no_template_can_say_is_one_line(self) -> None:
        with pytest.raises(FacekitError, match=r"^a\.mnn: .*1 lists") as caught:
            template_for(None, parse_about(changed(prior_sizes_wh=[[[8, 8]]]), FILE), FILE)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["/etc/passwd", "../yunet-n", "mine", "yunet-n/template.yaml"])
    def test_a_name_that_is_no_template_of_ours_opens_nothing(
        self, yunet: Template, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "template.yaml").write_text("name: mine\n")
        monkeypatch.chdir(tmp_path)
        said: About = dataclasses.replace(about_export(yunet, None), template=name)
        with pytest.raises(FacekitError, match=r"^a\.mnn: is of the template .*none of facekit's.*`template`"):
            template_for(None, said, FILE)

    def test_another_network_of_the_same_name(self, yunet: Template) -> None:
        said = dataclasses.replace(about_export(yunet, None), strides=(4, 8))
        with pytest.raises(FacekitError, match=r"^a\.mnn: was exported of a yunet-n with strides \[4, 8\]"):
            template_for(None, said, FILE)

    def test_nothing_said(self) -> None:
        with pytest.raises(FacekitError, match="says nothing of its template"):
            template_for(None, None, FILE)
