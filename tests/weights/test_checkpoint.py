from __future__ import annotations

import dataclasses
import io
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from facekit.errors import FacekitError
from facekit.template import TEMPLATES_DIR, Template, load_template
from facekit.weights import checkpoint as module
from facekit.weights.checkpoint import (
    Checkpoint,
    content_digest,
    load_state,
    new_meta,
    parse_checkpoint,
    save_checkpoint,
)
from facekit.weights.torch_file import DamagedCheckpointError, read_torch_file


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template(TEMPLATES_DIR / "face-detection-0200" / "template.yaml")


def example(template: Template) -> Checkpoint:
    state = {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(7)}
    return Checkpoint(new_meta(template, epoch=3, iteration=99), state, {"lr": 0.5}, {"scaler": {}})


def load(path: Path, template: Template) -> Checkpoint | None:
    return parse_checkpoint(read_torch_file(path), path, template)


class TestRoundTrip:
    def test_everything_comes_back(self, tmp_path: Path, template: Template) -> None:
        before = example(template)
        save_checkpoint(tmp_path / "new" / "a.pth", before)
        after = load(tmp_path / "new" / "a.pth", template)
        assert after is not None
        assert after.meta == before.meta
        assert after.epoch == 3
        assert after.state_dict.keys() == before.state_dict.keys()
        assert all(torch.equal(after.state_dict[name], before.state_dict[name]) for name in before.state_dict)
        assert (after.optimizer, after.extra) == (before.optimizer, before.extra)

    def test_without_optimiser(self, tmp_path: Path, template: Template) -> None:
        save_checkpoint(tmp_path / "a.pth", Checkpoint(new_meta(template, 0, 0), {}))
        after = load(tmp_path / "a.pth", template)
        assert after is not None
        assert (after.optimizer, after.extra, after.state_dict) == (None, {}, {})

    def test_meta_is_plain_data(self, template: Template) -> None:
        assert new_meta(template, 1, 2)["model"]["prior_sizes_wh"][0][0] == [8.0213, 12.8]


class TestAtomic:
    @pytest.mark.parametrize("error", [RuntimeError("enforce fail\nat file.cpp"), OSError(28, "No space left")])
    def test_failing_write_keeps_the_old_file(
        self, tmp_path: Path, template: Template, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        path = tmp_path / "latest.pth"
        save_checkpoint(path, example(template))
        before = path.read_bytes()

        def half(content: Any, target: Path) -> None:
            target.write_bytes(b"half")
            raise error

        monkeypatch.setattr(module.torch, "save", half)
        with pytest.raises(
            FacekitError, match=rf"{path}: can't be written \((enforce fail; \d+ MiB .* free|No space left)\)"
        ):
            save_checkpoint(path, example(template))
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_below_a_file(self, tmp_path: Path, template: Template) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FacekitError, match="can't be written"):
            save_checkpoint(tmp_path / "file" / "a.pth", example(template))
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


class Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
class TestBadFiles:
    def complaint(self, path: Path) -> str:
        with pytest.raises(FacekitError) as caught:
            read_torch_file(path)
        assert str(caught.value).startswith(f"{path}: ")
        return str(caught.value)

    def test_missing(self, tmp_path: Path) -> None:
        assert "no such file" in self.complaint(tmp_path / "none.pth")

    def test_folder(self, tmp_path: Path) -> None:
        assert "is a folder, not a file" in self.complaint(tmp_path)

    @pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_cut_off(self, tmp_path: Path, fraction: float, zipped: bool) -> None:
        buffer = io.BytesIO()
        content = {"state_dict": {"weight": torch.rand(50, 50)}}
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        data = buffer.getvalue()
        path = tmp_path / "a.pth"
        path.write_bytes(data[: int(len(data) * fraction)])
        text = self.complaint(path)
        assert f"({int(len(data) * fraction)} bytes)" in text
        assert "cut off" in text
        assert "Bring the file again" in text

    @pytest.mark.parametrize(
        "data",
        [b"hello there", b"<html>404</html>", b"\x80", b"\x80\x02}.", b"PK\x03\x04", bytes(64), b"\xff\xd8\xff",
         b"(lp0\n", b"cos\nsystem\n(S'true'\ntR.", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff."],
    )  # fmt: skip
    def test_no_checkpoint(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "a.pth"
        path.write_bytes(data)
        self.complaint(path)

    def test_other_zip(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
        self.complaint(path)

    @pytest.mark.parametrize("how", ["zip", "legacy", "plain"])
    def test_code_is_refused_and_not_run(self, tmp_path: Path, how: str) -> None:
        trace, path = tmp_path / "executed", tmp_path / "a.pth"
        content = {"meta": {}, "state_dict": {"weight": torch.zeros(1)}, "extra": Evil(trace)}
        if how == "plain":
            path.write_bytes(pickle.dumps(Evil(trace)))
        else:
            torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
        text = self.complaint(path)
        assert "safely" in text
        assert not trace.exists()

    def test_the_evil_file_would_run_code(self, tmp_path: Path) -> None:
        """Or the test above would prove nothing."""
        trace = tmp_path / "executed"
        pickle.loads(pickle.dumps(Evil(trace)))
        assert trace.exists()


class TestParse:
    PATH = Path("a.pth")

    def content(self, template: Template) -> dict[str, Any]:
        example_ = example(template)
        return {"meta": example_.meta, "state_dict": example_.state_dict, "optimizer": None, "extra": {}}

    @pytest.mark.parametrize("content", [None, 3, [], {}, {"meta": None}, {"meta": {"epoch": 70}, "state_dict": {}}])
    def test_foreign_is_none(self, template: Template, content: Any) -> None:
        assert parse_checkpoint(content, self.PATH, template) is None

    def test_another_templates_priors(self, template: Template) -> None:
        other = load_template(TEMPLATES_DIR / "face-detection-0202" / "template.yaml")
        with pytest.raises(FacekitError) as caught:
            parse_checkpoint(self.content(other), self.PATH, template)
        text = str(caught.value)
        assert "a.pth: made for template 'face-detection-0202', not for 'face-detection-0200'" in text
        assert "they differ in prior_sizes_wh" in text
        assert "Use the work dir of 'face-detection-0202'" in text

    def test_another_architecture(self, template: Template) -> None:
        other = load_template(TEMPLATES_DIR / "yunet-n" / "template.yaml")
        with pytest.raises(FacekitError, match=r"architecture, prior_sizes_wh, input"):
            parse_checkpoint(self.content(other), self.PATH, template)

    def test_other_normalisation(self, template: Template) -> None:
        settings = dataclasses.replace(template.input, std=(1.0, 1.0, 1.0))
        other = dataclasses.replace(template, name="other", input=settings)
        with pytest.raises(FacekitError, match="differ in input"):
            parse_checkpoint(self.content(other), self.PATH, template)

    def test_a_template_that_was_edited(self, template: Template) -> None:
        settings = dataclasses.replace(template.input, std=(1.0, 1.0, 7.0))
        edited = dataclasses.replace(template, input=settings)
        text = (
            rf"^a\.pth: made for another 'face-detection-0200', whose template was edited since: input\.std: expected "
            rf"\[1\.0, 1\.0, 7\.0\], got {re.escape(str(list(template.input.std)))}\. Put input\.std back"
        )
        with pytest.raises(FacekitError, match=text):
            parse_checkpoint(self.content(template), self.PATH, edited)
        first, *sizes = template.model.prior_sizes_wh
        priors = ((*first[:-1], (7.0, 7.0)), *sizes)
        edited = dataclasses.replace(template, model=dataclasses.replace(template.model, prior_sizes_wh=priors))
        with pytest.raises(FacekitError, match=r"prior_sizes_wh\[0\]\[\d+\]: expected \[7\.0, 7\.0\], got"):
            parse_checkpoint(self.content(template), self.PATH, edited)

    def test_renamed_template_with_other_training_fits(self, template: Template) -> None:
        training = dataclasses.replace(template.training, epochs=5)
        mine = dataclasses.replace(template, name="mine", training=training)
        assert parse_checkpoint(self.content(template), self.PATH, mine) is not None

    @pytest.mark.parametrize(
        "damage",
        [{"state_dict": None}, {"state_dict": {"a": 3}}, {"state_dict": {1: torch.zeros(1)}}, {"meta": {"epoch": None}},
         {"meta": {"epoch": "x"}}, {"meta": {"model": None}}, {"meta": {"model": 3}}, {"optimizer": 3}, {"extra": 3},
         {"meta": {"iteration": None}}, {"meta": {"epoch_iteration": "x"}}, {"digest": "0" * 64}, {"digest": 3}],
    )  # fmt: skip
    def test_ours_but_damaged(self, template: Template, damage: dict[str, Any]) -> None:
        content = self.content(template)
        meta = content["meta"] | damage.get("meta", {})
        with pytest.raises(FacekitError, match=r"a\.pth: "):
            parse_checkpoint(content | damage | {"meta": meta}, self.PATH, template)

    def test_ours_without_weights(self, template: Template) -> None:
        content = self.content(template)
        del content["state_dict"]
        with pytest.raises(FacekitError, match=r"a\.pth: .*state_dict"):
            parse_checkpoint(content, self.PATH, template)


class TestDigest:
    def content(self) -> dict[str, Any]:
        return {
            "meta": {"epoch": 3, "name": "a", "none": None, "list": [1, 2.5, True], "nan": float("nan")},
            "state_dict": {"w": torch.arange(6.0).reshape(2, 3), "half": torch.ones(3, dtype=torch.bfloat16)},
            "empty": torch.zeros(0, 4),
        }

    def test_survives_saving(self, tmp_path: Path) -> None:
        torch.save(self.content(), tmp_path / "a.pth")
        assert content_digest(read_torch_file(tmp_path / "a.pth")) == content_digest(self.content())

    def test_memory_layout_does_not_count(self) -> None:
        plain = torch.rand(2, 3, 4, 5)
        assert content_digest(plain) == content_digest(plain.to(memory_format=torch.channels_last))
        assert content_digest(plain) == content_digest(plain.clone().requires_grad_())

    @pytest.mark.parametrize(
        "change",
        [
            lambda c: c["meta"].update(epoch=4),
            lambda c: c["meta"].update(epoch=3.0),
            lambda c: c["meta"].update(epoch="3"),
            lambda c: c["meta"].update(list=[1, 2.5, 1]),
            lambda c: c["meta"].pop("none"),
            lambda c: c["meta"].update(list=[[1], 2.5, True]),
            lambda c: c["state_dict"].update(w=c["state_dict"]["w"].reshape(3, 2)),
            lambda c: c["state_dict"].update(w=c["state_dict"]["w"].double()),
            lambda c: c["state_dict"].update(half=c["state_dict"]["half"].half()),
            lambda c: c["state_dict"]["w"][1, 2].add_(1e-6),
            lambda c: c["state_dict"].update(v=c["state_dict"].pop("w")),
            lambda c: c.update(empty=torch.zeros(0, 5)),
        ],
    )
    def test_every_change_counts(self, change: Any) -> None:
        changed = self.content()
        change(changed)
        assert content_digest(changed) != content_digest(self.content())

    def test_zeros_of_both_signs_differ(self) -> None:
        assert content_digest(torch.tensor(0.0)) != content_digest(torch.tensor(-0.0))

    def test_flipped_bit_of_a_weight(self, tmp_path: Path, template: Template) -> None:
        path = tmp_path / "a.pth"
        marker = torch.full((64,), 1.5)
        save_checkpoint(path, dataclasses.replace(example(template), state_dict={"weight": marker}))
        data = bytearray(path.read_bytes())
        place = data.find(marker.numpy().tobytes())
        assert place > 0
        data[place + 17] ^= 4
        path.write_bytes(data)
        with pytest.raises(DamagedCheckpointError, match=r"a\.pth: a damaged checkpoint: .*sha256 differs.*previous"):
            load(path, template)

    def test_checkpoints_without_one_load(self, tmp_path: Path, template: Template) -> None:
        before = example(template)
        content = {"meta": before.meta, "state_dict": before.state_dict, "optimizer": None, "extra": {}}
        del content["meta"]["epoch_iteration"]  # type: ignore[attr-defined]
        torch.save(content, tmp_path / "a.pth")
        after = load(tmp_path / "a.pth", template)
        assert after is not None
        assert (after.epoch, after.epoch_iteration) == (3, 0)


class TestLoadState:
    def network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))

    def test_fills(self) -> None:
        source, target = self.network(), self.network()
        load_state(target, source.state_dict(), "a.pth")
        assert torch.equal(source[0].weight, target[0].weight)  # type: ignore[index]

    def test_everything_wrong_is_listed_and_nothing_filled(self) -> None:
        target = self.network()
        state = {name: tensor.clone() for name, tensor in target.state_dict().items()}
        before = {name: tensor.clone() for name, tensor in state.items()}
        del state["0.bias"], state["1.bias"]
        state["0.weight"] = torch.zeros(3, 3)
        state["1.weight"] += 1
        state |= {"extra.a": torch.zeros(1), "extra.b": torch.zeros(1)}
        with pytest.raises(FacekitError) as caught:
            load_state(target, state, "a.pth")
        text = str(caught.value)
        assert text.startswith("a.pth: ")
        assert "missing (2): 0.bias, 1.bias" in text
        assert "unexpected (2): extra.a, extra.b" in text
        assert "wrong shape (1): 0.weight (expected (3, 2), got (3, 3))" in text
        assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())

    def test_empty(self) -> None:
        with pytest.raises(FacekitError, match=r"missing \(4\): 0\.weight, 0\.bias, 1\.weight, 1\.bias"):
            load_state(self.network(), {}, "a.pth")
