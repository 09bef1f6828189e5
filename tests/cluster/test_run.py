"""One local Ray for the file; what it does is compared with the plain run, picture by picture."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import facekit
from facekit.cluster.looking import LookAtShards, Part
from facekit.cluster.manifest import Manifest
from facekit.cluster.pool import Workers, over_workers, ray_of
from facekit.cluster.trials import Trial
from facekit.commands.detect_shards import DetectingShards
from facekit.errors import ArgumentError, FacekitError, Interrupted
from facekit.results.row import Row
from tests.cluster.support import tar_of, written
from tests.pictures.av_support import make

TWO = Workers(number=2)
MODEL = "bundled"


@pytest.fixture(scope="module")
def two_workers() -> Iterator[int]:
    before = signal.getsignal(signal.SIGTERM)
    with ray_of(TWO) as count:
        yield count
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, drawn_dir: Path) -> Path:
    """Twelve with faces, two broken."""
    folder = tmp_path_factory.mktemp("pictures")
    for path in sorted((drawn_dir / "images").iterdir()):
        shutil.copy(path, folder)
    (folder / "aaa.jpg").write_bytes(b"no picture")
    (folder / "zzz.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def plain(pictures: Path) -> dict[str, Row]:
    return {row.source: row for row in facekit.detect(str(pictures), model=MODEL, threads=1)}


def detect(*names: str, **options: object) -> DetectingShards:
    found = facekit.detect(names, model=MODEL, engine="ray", num_workers=2, **options)  # type: ignore[arg-type]
    assert isinstance(found, DetectingShards)
    return found.run()


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("part-*")}


class TestRows:
    def test_are_those_of_the_plain_run(
        self, two_workers: int, pictures: Path, plain: dict[str, Row], tmp_path: Path
    ) -> None:
        found = detect(str(pictures), parquet=tmp_path / "p", jsonl=tmp_path / "j", shard_size=5)
        text = b"".join(data for _, data in sorted(parts(tmp_path / "j").items())).decode()
        assert text == "".join(row.to_json() + "\n" for row in plain.values())
        assert sum(len(row.faces) for row in plain.values()) > 5
        assert [row.to_dict() for row in found] == [row.to_dict() for row in plain.values()]
        assert found.text().endswith(f"3 parts, 14 rows, {sum(len(row.faces) for row in plain.values())} faces")
        assert [(loss.what, len(found.losses)) for loss in found.losses[:9]] == [
            (str(pictures / "aaa.jpg"), 2), (str(pictures / "zzz.jpg"), 2)
        ]  # fmt: skip
        table = pq.read_table(tmp_path / "p")  # the folder, as others read it
        assert table.num_rows == 14 and table.schema.metadata[b"facekit_schema"] == b"1"

    def test_of_archives_and_tables(
        self, two_workers: int, pictures: Path, plain: dict[str, Row], tmp_path: Path
    ) -> None:
        files = sorted(pictures.iterdir())
        contents = [(path.name, path.read_bytes()) for path in files]
        (tmp_path / "a.tar").write_bytes(tar_of(contents[:8]))
        pq.write_table(
            pa.table({"image": [data for _, data in contents[8:]]}), tmp_path / "b.parquet", row_group_size=2
        )
        found = detect(
            str(tmp_path / "a.tar"), str(tmp_path / "*.parquet"), jsonl=tmp_path / "out", shard_size=4, batch_size=3
        )  # fmt: skip
        rows = list(found)
        assert [row.source for row in rows] == [f"tar://{name}::{tmp_path}/a.tar" for name, _ in contents[:8]] + [
            f"{tmp_path}/b.parquet#{number}" for number in range(6)
        ]
        for row, path in zip(rows, files, strict=True):
            expected = plain[str(path)]
            assert (row.size_wh, row.error) == (expected.size_wh, expected.error)
            assert len(row.faces) == len(expected.faces)
            assert abs(row.faces.boxes_xyxy - expected.faces.boxes_xyxy).max(initial=0) < 1e-3

    @pytest.mark.parametrize("with_video", [False, True])
    def test_pages_that_nobody_looked_at_are_said(
        self, two_workers: int, pictures: Path, tmp_path: Path, with_video: bool
    ) -> None:
        image_bgr = cv2.imread(str(sorted(pictures.glob("*.jpg"))[1]))
        assert image_bgr is not None
        cv2.imwritemulti(str(tmp_path / "pages.tif"), [image_bgr] * 3)
        names = [str(tmp_path / "pages.tif"), "nowhere.jpg"]
        if with_video:
            names.append(str(make(tmp_path / "a.mp4", [0, 40], (64, 64), sound=False)))
        found = detect(*names, jsonl=tmp_path / "out")
        assert [row.error is None for row in found] == [True, False] + [True] * (2 if with_video else 0)
        assert [loss.what for loss in found.losses[:9]] == ["nowhere.jpg", str(tmp_path / "pages.tif")]
        assert found.losses[1].why.startswith("2 of its 3 frames or pages: ") and len(found.losses) == 2
        again = detect(*names, jsonl=tmp_path / "out", resume=True)
        assert [str(loss) for loss in again.losses[:9]] == [str(loss) for loss in found.losses[:9]]

    @pytest.mark.parametrize("kind", ["tar", "parquet"])
    def test_frames_that_nobody_looked_at_in_archives(self, pictures: Path, tmp_path: Path, kind: str) -> None:
        image_bgr = cv2.imread(str(sorted(pictures.glob("*.jpg"))[1]))
        assert image_bgr is not None
        frames = cv2.Animation()
        frames.frames, frames.durations = [image_bgr, image_bgr[::-1], image_bgr], [100, 100, 100]
        contents = []
        for suffix in (".gif", ".png", ".webp"):
            cv2.imwriteanimation(str(tmp_path / f"a{suffix}"), frames)
            contents.append((f"a{suffix}", (tmp_path / f"a{suffix}").read_bytes()))
        contents.append(("b.png", bytes(cv2.imencode(".png", image_bgr)[1].tobytes())))
        if kind == "tar":
            source = written(tmp_path / "a.tar", tar_of(contents))
        else:
            source = str(tmp_path / "a.parquet")
            pq.write_table(pa.table({"image": [content for _, content in contents]}), source)
        found = detect(source, jsonl=tmp_path / "out")
        assert [loss.why[:29] for loss in found.losses[:9]] == ["2 of its 3 frames or pages: t"] * 3

    def test_here_where_no_engine_is_given(self, pictures: Path, plain: dict[str, Row], tmp_path: Path) -> None:
        """An archive is read in this process, without Ray."""
        path = sorted(pictures.glob("*.jpg"))[1]
        (tmp_path / "a.tar").write_bytes(tar_of([(path.name, path.read_bytes())]))
        (row,) = facekit.detect(str(tmp_path / "a.tar"), model=MODEL, threads=1, jsonl=tmp_path / "out")
        assert row.faces.to_dict() == plain[str(path)].faces.to_dict()


class TestDeaths:
    def test_lose_and_double_nothing(self, two_workers: int) -> None:
        """A shard whose first worker is killed, and one that kills each worker until its picture is suspected."""
        found = list(over_workers(Deadly, range(9), TWO, two_workers))
        assert sorted(found) == [(item, {2: 1, 7: 4}.get(item, 0)) for item in range(9)]


def test_the_book_of_trials_is_not_lost_with_another_node(two_workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies where the driver is. With two real nodes: tools/verify_cluster.py."""
    import ray
    from ray.util import scheduling_strategies

    places = []

    class Kept(scheduling_strategies.NodeAffinitySchedulingStrategy):
        def __init__(self, node_id: str, soft: bool) -> None:
            places.append(node_id)
            super().__init__(node_id, soft)

    monkeypatch.setattr(scheduling_strategies, "NodeAffinitySchedulingStrategy", Kept)
    assert list(over_workers(Harmless, range(2), TWO, two_workers)) == [0, 1]
    assert places == [ray.get_runtime_context().get_node_id()]


def Harmless() -> Callable[[int, Trial], int]:
    return lambda item, _: item


def Deadly() -> Callable[[int, Trial], tuple[int, int]]:
    """Made once a worker: gives the item, and how many workers died over it."""

    def job(item: int, trial: Trial) -> tuple[int, int]:
        if item == 2 and not trial.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        if item == 7 and "picture" not in trial.suspects:
            if trial.is_careful:
                trial.note("picture")
            os._exit(1)
        return item, trial.deaths

    return job


class TestGoingOn:
    def test_does_what_is_not_done(self, pictures: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        arguments = {"model": MODEL, "threads": 1, "shard_size": 3, "jsonl": out}
        (tmp_path / "x.tar").write_bytes(tar_of([]))  # so that shards are written here, too
        names = (str(pictures), str(tmp_path / "x.tar"))
        facekit.detect(names, **arguments).run()
        whole = parts(out)
        assert len(whole) == 6
        file = out / "_facekit" / "manifest.json"
        manifest = json.loads(file.read_text())
        manifest["done"] = manifest["done"][::2]
        file.write_text(json.dumps(manifest))
        for name in ("part-000001.jsonl", "part-000003.jsonl"):
            (out / name).write_text("half\n")  # as after a kill between the part and the manifest
        with pytest.raises(FacekitError, match="holds a run already"):
            facekit.detect(names, **arguments).run()
        with pytest.raises(FacekitError, match=r"threshold 0\.5, now 0\.6"):
            facekit.detect(names, **arguments, threshold=0.6, resume=True).run()
        before = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
        done = facekit.detect(names, **arguments, resume=True).run()
        assert parts(out) == whole
        touched = [path.name for path, time_ns in before.items() if path.stat().st_mtime_ns != time_ns]
        assert sorted(touched) == ["part-000001.jsonl", "part-000003.jsonl", "part-000005.jsonl"]
        assert "14 rows" in done.text() and len(done.losses) == 2

    def test_pictures_that_came_and_went(self, pictures: Path, tmp_path: Path) -> None:
        """The plan stays, as parts are numbered by it: what it doesn't hold has no row, which is said."""
        folder = tmp_path / "in"
        shutil.copytree(pictures, folder)
        (tmp_path / "x.tar").write_bytes(tar_of([]))
        names = (str(folder), str(tmp_path / "x.tar"))
        arguments = {"model": MODEL, "threads": 1, "shard_size": 5, "jsonl": tmp_path / "out"}
        facekit.detect(names, **arguments).run()
        assert len(facekit.detect(names, **arguments, resume=True).run().losses) == 2  # that can't be read
        for name in ("new0.jpg", "new1.jpg"):
            shutil.copy(folder / "aaa.jpg", folder / name)
        (folder / "zzz.jpg").unlink()
        (tmp_path / "x.tar").write_bytes(tar_of([("a.jpg", bytes(20_000))]))
        for _ in range(2):
            done = facekit.detect(names, **arguments, resume=True).run()
            assert [str(loss).replace(f"{tmp_path}/", "") for loss in done.losses[:3]] == [
                f"out: {what}. Give another folder to start anew."
                for what in (
                    "2 files are there now and not in this run's plan, so have no row (first: in/new0.jpg)",
                    "1 files of this run's plan are not there any more (first: in/zzz.jpg)",
                    "1 files have another size than in this run's plan (first: x.tar)",
                )
            ]
            assert len(done.losses) == 5 and "14 rows" in done.text()

    def test_a_list_that_grew(self, pictures: Path, tmp_path: Path) -> None:
        listed = tmp_path / "list.txt"
        files = sorted(map(str, pictures.iterdir()))
        listed.write_text("\n".join(files[:4]))
        (tmp_path / "x.tar").write_bytes(tar_of([]))
        arguments = {"model": MODEL, "threads": 1, "from_file": listed, "jsonl": tmp_path / "out"}
        facekit.detect((str(tmp_path / "x.tar"),), **arguments).run()
        facekit.detect((str(tmp_path / "x.tar"),), **arguments, resume=True).run()
        listed.write_text("\n".join(files[:6]))
        with pytest.raises(FacekitError, match=r"broken off had list_sha256 [0-9a-f]+, now [0-9a-f]+\. Give the same"):
            facekit.detect((str(tmp_path / "x.tar"),), **arguments, resume=True).run()

    def test_behind_a_signal(self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The shard in hand is finished, and the next run begins behind it."""
        look = LookAtShards.__call__

        def look_and_signal(self: LookAtShards, item: tuple[int, int, int], trial: Trial) -> Part:
            os.kill(os.getpid(), signal.SIGTERM)
            return look(self, item, trial)

        (tmp_path / "x.tar").write_bytes(tar_of([]))
        arguments = {"model": MODEL, "threads": 1, "shard_size": 5, "jsonl": tmp_path / "out"}
        with monkeypatch.context() as patch:
            patch.setattr(LookAtShards, "__call__", look_and_signal)
            with pytest.raises(Interrupted, match=r"after 1 of 4 shards, which are kept") as caught:
                facekit.detect((str(pictures), str(tmp_path / "x.tar")), **arguments).run()
        assert caught.value.exit_code == 128 + signal.SIGTERM
        assert list(parts(tmp_path / "out")) == ["part-000000.jsonl"]
        done = facekit.detect((str(pictures), str(tmp_path / "x.tar")), **arguments, resume=True).run()
        assert "4 parts, 14 rows" in done.text()

    @pytest.mark.parametrize(
        "text", ["", "{}", "[]", '{"version":1,"settings":7,"done":[],"losses":[],"names_lost":0}']
    )
    def test_a_manifest_of_others(self, text: str, tmp_path: Path) -> None:
        manifest = Manifest(str(tmp_path), {"model": "yunet-n"})
        Path(manifest.file).parent.mkdir()
        Path(manifest.file).write_text(text)
        with pytest.raises(FacekitError, match="manifest"):
            manifest.read()

    def test_parts_of_something_else(self, pictures: Path, tmp_path: Path) -> None:
        (tmp_path / "part-000000.jsonl").write_text("mine\n")
        (tmp_path / "a.tar").write_bytes(tar_of([]))
        with pytest.raises(FacekitError, match="holds parts of something else"):
            facekit.detect(str(tmp_path / "a.tar"), model=MODEL, jsonl=tmp_path).run()
        assert (tmp_path / "part-000000.jsonl").read_text() == "mine\n"


class TestOtherCommands:
    def test_eval(self, two_workers: int, drawn_dir: Path, tmp_path: Path) -> None:
        labels = drawn_dir / "annotations.json"
        plain, shared = (
            facekit.evaluate(
                load_weights=MODEL, test_ann_files=labels, test_data_roots=drawn_dir, threads=1, **options
            )
            for options in ({}, {"engine": "ray", "num_workers": 2, "shard_size": 5})
        )  # fmt: skip
        assert plain is not None and shared is not None

        def figures(measurement: object) -> list[tuple[str, float]]:
            metrics = measurement.record.metrics  # type: ignore[attr-defined]
            return [(metric.key, metric.value) for metric in metrics if "latency" not in metric.key]

        assert len(figures(plain)) > 5 and figures(plain) == figures(shared)

    def test_mark(self, two_workers: int, pictures: Path, tmp_path: Path) -> None:
        texts = []
        for name, options in (("a.json", {}), ("b.json", {"engine": "ray", "num_workers": 2, "shard_size": 5})):
            done = facekit.mark(pictures, tmp_path / name, unlabelled=True, load_weights=MODEL, threads=1, **options)
            assert [loss.what for loss in done.losses] == [str(pictures / "aaa.jpg"), str(pictures / "zzz.jpg")]
            texts.append((tmp_path / name).read_text())
        assert texts[0] == texts[1] and '"score"' in texts[0]

    def test_check(self, two_workers: int, drawn_dir: Path, tmp_path: Path) -> None:
        folder = tmp_path / "set"
        shutil.copytree(drawn_dir, folder)
        first, second = sorted((folder / "images").iterdir())[:2]
        first.write_bytes(b"junk")
        second.write_bytes(second.read_bytes()[:-900])
        plain = facekit.check_data(folder / "annotations.json")
        shared = facekit.check_data(folder / "annotations.json", engine="ray", num_workers=2, shard_size=4)
        assert plain.report == shared.report and not shared.is_fine


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"engine": "ray"}, "give a folder"),
            ({"engine": "ray", "jsonl": "o", "csv": "a.csv"}, "`csv`: shards are written as"),
            ({"engine": "local", "jsonl": "s3://b/o", "num_workers": 2}, "`num_workers` is about Ray's workers"),
        ],
    )
    def test_what_does_not_go_together(self, options: dict[str, str], message: str, pictures: Path) -> None:
        with pytest.raises(ArgumentError, match=message):
            facekit.detect(str(pictures), **options)  # type: ignore[arg-type]

    def test_no_cluster_there(self, tmp_path: Path) -> None:
        code = """
import sys, facekit
facekit.detect(sys.argv[1], engine="ray", address="127.0.0.1:1", jsonl=sys.argv[2]).run()
"""
        (tmp_path / "a.jpg").write_bytes(b"-")
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "a.jpg", tmp_path / "o"], capture_output=True, text=True
        )  # fmt: skip
        assert "No Ray could be reached or started at `address=127.0.0.1:1`" in done.stderr
        assert not list((tmp_path / "o").iterdir())  # the right address needs no `resume`


@pytest.mark.parametrize("has_part", [False, True])
def test_a_run_that_failed_before_anything_was_counted(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_part: bool
) -> None:
    """It leaves nothing behind; but where a part is written already, what `resume` needs."""
    (tmp_path / "a.tar").write_bytes(tar_of([("a.jpg", (pictures / "aaa.jpg").read_bytes())]))

    def failing(self: LookAtShards, item: tuple[int, int, int], trial: Trial) -> Part:
        if has_part:
            Path(self.looking.outputs[0].part(0)).write_text("")
        raise FacekitError("no")

    monkeypatch.setattr(LookAtShards, "__call__", failing)
    with pytest.raises(FacekitError, match="no"):
        facekit.detect((str(tmp_path / "a.tar"),), jsonl=tmp_path / "o").run()
    assert (tmp_path / "o" / "_facekit").exists() == has_part


def test_ray_says_nothing_as_it_starts() -> None:
    code = "from facekit.cluster.pool import Workers, ray_of\nwith ray_of(Workers(number=1)) as count: print(count)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n" and "logging.cc" not in done.stderr


def test_detect_imports_no_ray(pictures: Path, tmp_path: Path) -> None:
    """Nor the commands that could."""
    code = """
import sys
sys.modules.update(dict.fromkeys(("ray", "pyarrow", "fsspec")))
import facekit
facekit.detect(sys.argv[1], jsonl=sys.argv[2], threads=1).run()
assert not [name for name in sys.modules if name.split(".")[0] == "ray" and sys.modules[name] is not None]
"""
    picture = sorted(pictures.glob("*.jpg"))[1]
    subprocess.run([sys.executable, "-c", code, picture, tmp_path / "o.jsonl"], check=True)
    assert (tmp_path / "o.jsonl").read_text().count("box_xyxy") > 0
