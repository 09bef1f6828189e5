from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from facekit.commands.reproduce import recorded_options, repeat
from facekit.engine.training.options import TrainOptions
from facekit.engine.training.train import train
from facekit.errors import FacekitError
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.environment import environment
from facekit.records.run import RunRecord, data_differences, digest_data, read_record, write_record
from facekit.template import TEMPLATES_DIR, Template, find_template, load_template
from facekit.weights.checkpoint import content_digest
from facekit.weights.torch_file import read_torch_file

CPU = torch.device("cpu")


def small_template() -> Template:
    template = load_template(find_template("yunet-n"))
    return dataclasses.replace(
        template,
        input=dataclasses.replace(template.input, size_hw=(64, 64)),
        training=dataclasses.replace(template.training, batch_size=2, epochs=1, base_learning_rate=1e-3),
    )


def flat_pictures(folder: Path, count: int = 4) -> list[PictureLabels]:
    pictures = []
    for number in range(count):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), np.full((96, 96, 3), 40 * number, np.uint8))
        box = np.array([[10.0, 10 + number, 40, 40]])
        pictures.append(PictureLabels(path, (96, 96), box, np.full((1, 5, 2), np.nan), np.zeros(1, bool)))
    return pictures


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run in out/, its pictures beside it."""
    folder = tmp_path_factory.mktemp("run")
    options = TrainOptions("yunet-n", save_checkpoints_to=folder / "out", workers=0, base_learning_rate=1e-3)
    train(small_template(), flat_pictures(folder), [], options)
    return folder


class TestRecord:
    def test_of_a_run(self, run: Path) -> None:
        record = read_record(run / "out" / "run.json")
        assert record.flags["save_checkpoints_to"] == str((run / "out").resolve())
        assert (record.flags["seed"], record.flags["base_learning_rate"]) == (0, 1e-3)
        assert (record.train_data.pictures, record.train_data.faces, record.val_data.pictures) == (4, 4, 0)
        assert record.weights is None
        (session,) = record.sessions
        assert (session.from_iteration, session.changed) == (0, ())
        assert session.environment == environment(CPU)
        assert session.environment.torch == torch.__version__
        assert record.result is not None
        assert (record.result.epoch, record.result.iteration) == (1, 2)
        saved = read_torch_file(run / "out" / "latest.pth")["state_dict"]
        assert record.result.weights_sha256 == content_digest(dict(saved))

    def test_round_trip(self, run: Path, tmp_path: Path) -> None:
        record = read_record(run / "out" / "run.json")
        write_record(tmp_path, record)
        assert read_record(tmp_path / "run.json") == record

    def test_flags_come_back_as_options(self, run: Path) -> None:
        path = run / "out" / "run.json"
        options = recorded_options(read_record(path), path)
        assert options == TrainOptions(
            str(path), save_checkpoints_to=(run / "out").resolve(), workers=0, base_learning_rate=1e-3
        )

    def test_weights_that_it_starts_from(self, run: Path, tmp_path: Path) -> None:
        source = run / "out" / "latest.pth"
        options = TrainOptions(
            "yunet-n", save_checkpoints_to=tmp_path, load_weights=source, workers=0, max_iterations=1
        )
        train(small_template(), flat_pictures(run), [], options)
        weights = read_record(tmp_path / "run.json").weights
        assert weights is not None
        import hashlib

        assert weights.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()

    def test_resumption_is_added(self, run: Path, tmp_path: Path) -> None:
        pictures = flat_pictures(run)
        options = TrainOptions("yunet-n", save_checkpoints_to=tmp_path, workers=0)
        train(small_template(), pictures, [], options)
        train(small_template(), pictures, [], dataclasses.replace(options, resume_from=tmp_path, epochs=2, workers=1))
        record = read_record(tmp_path / "run.json")
        assert record.flags["resume_from"] is None
        assert [session.from_iteration for session in record.sessions] == [0, 2]
        assert record.sessions[1].changed == ("--epochs None -> 2",)
        assert record.result is not None and record.result.iteration == 4

    @pytest.mark.parametrize("name", sorted(path.parent.name for path in TEMPLATES_DIR.glob("*/template.yaml")))
    def test_every_template_comes_back(self, run: Path, name: str) -> None:
        from facekit.base.schema import plain_data
        from facekit.models import build_model

        template = load_template(find_template(name))
        record = dataclasses.replace(read_record(run / "out" / "run.json"), template=plain_data(template))
        record = dataclasses.replace(record, template=json.loads(json.dumps(record.template)))
        again = record.read_template(Path("run.json"))
        assert plain_data(again) == plain_data(template)
        if name == "yunet-n":
            assert [p.shape for p in build_model(again).parameters()] == [
                p.shape for p in build_model(template).parameters()
            ]


class TestBadRecords:
    @pytest.mark.parametrize(
        "content",
        ["", "{", "[]", "{}", "null", '{"facekit_run": 2}', '{"facekit_run": 1}', "[" * 100_000, "\x00", '{"a": 1}'],
    )
    def test_no_record(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "run.json"
        path.write_text(content)
        with pytest.raises(FacekitError, match=r"run\.json: no record of a run"):
            read_record(path)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match=r"run\.json: there is no such file"):
            read_record(tmp_path / "run.json")

    @pytest.mark.parametrize(
        ("place", "value", "complaint"),
        [
            (("sessions",), 3, "run.sessions"),
            (("sessions", 0, "from_iteration"), "x", r"run.sessions\[0\].from_iteration"),
            (("sessions", 0, "from_iteration"), True, r"run.sessions\[0\].from_iteration"),
            (("sessions", 0, "environment", "cores"), None, "environment.cores"),
            (("train_data", "label_files"), {"a": 3}, "train_data.label_files.a"),
            (("weights",), [], "run.weights: expected the keys path, sha256"),
            (("nonsense",), 1, "run: expected the keys template"),
        ],
    )
    def test_wrong_kinds(self, run: Path, tmp_path: Path, place: tuple[Any, ...], value: Any, complaint: str) -> None:
        content = json.loads((run / "out" / "run.json").read_text())
        part = content
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
        (tmp_path / "run.json").write_text(json.dumps(content))
        with pytest.raises(FacekitError, match=complaint):
            read_record(tmp_path / "run.json")

    def test_flag_of_another_version(self, run: Path) -> None:
        path = run / "out" / "run.json"
        record = read_record(path)
        record.flags["turbo"] = True
        with pytest.raises(FacekitError, match=r"run\.json: flags: expected the keys .*the facekit that wrote it"):
            recorded_options(record, path)

    def test_template_that_is_none(self, run: Path) -> None:
        record = dataclasses.replace(read_record(run / "out" / "run.json"), template={"name": "x"})
        with pytest.raises(FacekitError, match=r"run\.json:1: "):
            record.read_template(run / "out" / "run.json")


class TestDigestData:
    def test_depends_on_labels_and_sizes_not_on_the_place(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        one, other = (digest_data(flat_pictures(tmp_path / name), ()) for name in "ab")
        assert one == other
        assert data_differences(one, other, "training") == []

    def test_moved_box(self, tmp_path: Path) -> None:
        pictures = flat_pictures(tmp_path)
        one = digest_data(pictures, ())
        pictures[2].boxes_xywh[0, 0] += 0.25
        (difference,) = data_differences(one, digest_data(pictures, ()), "training")
        assert difference.startswith("the training labels (4 pictures with 4 faces -> 4 with 4; sha256 ")

    def test_other_order(self, tmp_path: Path) -> None:
        pictures = flat_pictures(tmp_path)
        assert data_differences(digest_data(pictures, ()), digest_data(pictures[::-1], ()), "training")

    def test_changed_picture(self, tmp_path: Path) -> None:
        pictures = flat_pictures(tmp_path)
        one = digest_data(pictures, ())
        with pictures[0].path.open("ab") as file:
            file.write(b"x")
        assert data_differences(one, digest_data(pictures, ()), "training") == [
            "the training pictures (their files' sizes differ)"
        ]

    def test_label_files(self, tmp_path: Path) -> None:
        (tmp_path / "labels.json").write_text("{}")
        digest = digest_data([], (tmp_path / "labels.json", tmp_path))
        assert digest.label_files == {
            str(tmp_path / "labels.json"): "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        }
        assert digest.pictures == 0


class TestReproduce:
    def again(self, run: Path, out: Path, pictures: list[PictureLabels], force: bool = False, **changes: Any) -> str:
        path = run / "out" / "run.json"
        record = dataclasses.replace(read_record(path), **changes)
        options = recorded_options(record, path, save_checkpoints_to=out)
        return repeat(record, path, options, pictures, [], force)

    def test_bit_equal(self, run: Path, tmp_path: Path) -> None:
        assert self.again(run, tmp_path, flat_pictures(run)).startswith("Bit-equal: ")

    def test_other_labels_are_refused(self, run: Path, tmp_path: Path) -> None:
        pictures = flat_pictures(run)[:3]
        with pytest.raises(FacekitError, match=r"the training labels \(4 pictures with 4 faces -> 3 .*`force=True`"):
            self.again(run, tmp_path / "out", pictures)
        assert not (tmp_path / "out").exists()

    def test_forced(self, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        pictures = flat_pictures(run)[:3]
        with pytest.raises(FacekitError, match=r"other weights than .* Versions and machine are the same"):
            self.again(run, tmp_path, pictures, force=True)
        assert "Not as recorded: the training labels" in caplog.text

    def test_other_versions_are_named(self, run: Path, tmp_path: Path) -> None:
        record = read_record(run / "out" / "run.json")
        old = dataclasses.replace(record.sessions[0].environment, torch="1.0")
        assert record.result is not None
        changes: dict[str, Any] = {
            "sessions": (dataclasses.replace(record.sessions[0], environment=old),),
            "result": dataclasses.replace(record.result, weights_sha256="0" * 64),
        }
        with pytest.raises(FacekitError, match=rf"These differ: torch 1\.0 -> {torch.__version__.split('+')[0]}"):
            self.again(run, tmp_path, flat_pictures(run), **changes)

    def test_changed_weights_at_the_start(self, run: Path, tmp_path: Path) -> None:
        from facekit.records.run import StartingWeights

        weights = StartingWeights(str(run / "out" / "latest.pth"), "0" * 64)
        with pytest.raises(FacekitError, match=r"the weights that it starts from \(.*latest\.pth\)"):
            self.again(run, tmp_path, flat_pictures(run), weights=weights)

    def test_flags_that_take_one_of_some_words(self, run: Path) -> None:
        path = run / "out" / "run.json"
        record = read_record(path)
        cached = dataclasses.replace(record, flags=record.flags | {"cache": "disk"})
        assert recorded_options(cached, path).cache == "disk"
        for wrong in ("tape", 7, ["disk"]):
            with pytest.raises(FacekitError, match=r"flags\.cache: expected one of ram, disk, got "):
                recorded_options(dataclasses.replace(record, flags=record.flags | {"cache": wrong}), path)

    def test_unfinished(self, run: Path, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match="the run was not finished"):
            self.again(run, tmp_path, flat_pictures(run), result=None)


def test_plain_record_needs_no_sessions() -> None:
    digest = digest_data([], ())
    assert RunRecord({}, {}, digest, digest, None, ()).processes_on_gpus() == 0
