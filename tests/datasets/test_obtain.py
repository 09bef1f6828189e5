"""Tiny archives of the published shape, from a server on this machine, to the layouts that our readers take."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from facekit.base.download import Identity
from facekit.datasets import arrange
from facekit.datasets.arrange import arrange_fddb, arrange_widerface
from facekit.datasets.catalogue import DATA_SETS, DataSet
from facekit.datasets.obtain import obtain, plan_download
from facekit.errors import FacekitError
from facekit.labels.formats import read_labels, recognise
from facekit.metrics.wider import find_wider_ground_truth, read_wider_ground_truth
from tests.datasets.archives import (
    FDDB_FILES,
    GROUND_TRUTH,
    WIDER_FILES,
    changed,
    get_wider,
    held,
    in_tgz,
    in_zip,
)

if TYPE_CHECKING:
    from tests.conftest import Server


class TestCatalogue:
    @pytest.mark.parametrize("data_set", DATA_SETS.values())
    def test_is_whole(self, data_set: DataSet) -> None:
        names = [archive.name for archive in data_set.archives]
        assert len(set(names)) == len(names)
        assert data_set.licence
        for archive in data_set.archives:
            assert archive.urls and all(url.startswith(("https://", "http://")) for url in archive.urls)
            assert archive.identity.sha256 or archive.identity.md5
            for digest, length in ((archive.identity.sha256, 64), (archive.identity.md5, 32)):
                assert digest is None or (len(digest) == length and set(digest) <= set("0123456789abcdef"))
            assert archive.limits.bytes > (archive.identity.size or 0)
            assert archive.limits.files > archive.pictures


class TestWiderFace:
    def test_layout_of_both_seeds(self, wider: DataSet, folder: Path) -> None:
        get_wider(wider, folder)
        for name in (
            "wider_face_split/wider_face_train_bbx_gt.txt", "labelv2/train/labelv2.txt", "labelv2/val/labelv2.txt",
            "WIDER_train/images/0--Parade/0_Parade_a_1.jpg", "WIDER_train/0--Parade/0_Parade_a_1.jpg",
            "WIDER_train/Annotations/0_Parade_a_1.xml", "WIDER_val/Annotations/0_Parade_v_1.xml", "train.txt",
            "val.txt",
            *(f"labelv2/val/gt/{name}" for name in GROUND_TRUTH),
        ):  # fmt: skip
            assert (folder / name).is_file(), name
        assert (folder / "train.txt").read_text() == "0_Parade_a_1\n0_Parade_a_2\n1_Handshaking_b_1\n"
        assert not (folder / "WIDER_test").exists()
        link, published = (folder / f"WIDER_val/{way}0--Parade/0_Parade_v_1.jpg" for way in ("", "images/"))
        assert link.samefile(published)

    @pytest.mark.parametrize(
        ("name", "format_name"),
        [("labelv2/train/labelv2.txt", "labelv2"), ("train.txt", "voc-wider"),
         ("wider_face_split/wider_face_train_bbx_gt.txt", "wider")],
    )  # fmt: skip
    def test_our_readers_take_it(self, wider: DataSet, folder: Path, name: str, format_name: str) -> None:
        get_wider(wider, folder)
        assert recognise(folder / name) == format_name
        pictures = read_labels(folder / name)
        assert [picture.path.stem for picture in pictures] == ["0_Parade_a_1", "0_Parade_a_2", "1_Handshaking_b_1"]
        # The second face of the first picture has no height.
        assert [picture.boxes_xywh.tolist() for picture in pictures] == [[[5, 6, 20, 30]], [], [[10, 10, 12, 13]]]
        if format_name != "wider":
            assert [picture.size_wh for picture in pictures] == [(64, 48), (60, 48), (40, 48)]

    def test_what_eval_wants(self, wider: DataSet, folder: Path) -> None:
        get_wider(wider, folder, ("train", "test"))
        ground_truth = read_wider_ground_truth(folder)
        assert find_wider_ground_truth(folder) == folder / "labelv2" / "val" / "gt"
        assert all((folder / "WIDER_val" / "images" / f"{name}.jpg").is_file() for name in ground_truth.names)
        assert len(ground_truth.names) == 1
        assert not (folder / "WIDER_train").exists()
        assert len(read_labels(folder / "val.txt")) == 1

    def test_second_run_does_nothing(self, wider: DataSet, folder: Path, server: Server) -> None:
        first = get_wider(wider, folder)
        files, asked = held(folder), list(server.requests)
        assert get_wider(wider, folder) == first
        assert held(folder) == files
        assert server.requests == asked
        plan = plan_download(wider, folder, ("test",))
        assert plan.needed_bytes == 0
        assert {step for _, step in plan.steps} == {"unpacked"}

    def test_test_set_can_come_later(self, wider: DataSet, folder: Path, server: Server) -> None:
        get_wider(wider, folder)
        server.requests.clear()
        assert f"without labels: {folder / 'WIDER_test'}" in get_wider(wider, folder, ())
        assert server.requests == [("WIDER_test.zip", None)]
        assert (folder / "WIDER_test" / "images" / "0--Parade" / "0_Parade_t_1.jpg").is_file()

    def test_archives_can_go(self, wider: DataSet, folder: Path, server: Server) -> None:
        get_wider(wider, folder, remove_archives=True)
        assert list((folder / "archives").iterdir()) == []
        asked = list(server.requests)
        get_wider(wider, folder)
        assert server.requests == asked

    def test_says_what_is_there(self, wider: DataSet, folder: Path) -> None:
        said = get_wider(wider, folder)
        assert f"train  3 pictures, 2 faces: {folder}/labelv2/train/labelv2.txt, {folder}/train.txt" in said
        assert "val    1 pictures, 1 faces" in said
        assert f"eval --template yunet-n --load-weights WEIGHTS --wider-dir {folder}" in said
        assert f"--train-ann-files {folder}/labelv2/train/labelv2.txt" in said

    def test_landmarks_given(self, wider: DataSet, folder: Path, tmp_path: Path) -> None:
        points = " ".join(f"{10 + i} {20 + i} 0" for i in range(5))
        given = tmp_path / "theirs.txt"
        given.write_text(f"# 0--Parade/0_Parade_a_1.jpg 64 48\n5 6 25 36 {points} 0.9\n")
        arrange.check_landmarks(given)
        get_wider(wider, folder)
        said = arrange_widerface(folder, landmarks=given)
        assert "train  1 pictures, 1 faces, 1 with landmarks" in said
        for name in ("labelv2/train/labelv2.txt", "train.txt"):
            [labels] = read_labels(folder / name)
            assert labels.landmarks_xy.tolist() == [[[10 + i, 20 + i] for i in range(5)]]
        assert arrange_widerface(folder) == said  # they stay

    def test_labels_without_landmarks_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("# a.jpg 64 48\n5 6 25 36\n")
        with pytest.raises(FacekitError, match="five landmarks a face, got none"):
            arrange.check_landmarks(tmp_path / "a.txt")

    def test_disk_without_hard_links(
        self, wider: DataSet, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError("not supported")

        monkeypatch.setattr(os, "link", refuse)
        with caplog.at_level(logging.WARNING, "facekit"):
            get_wider(wider, folder)
        assert "no hard links there" in caplog.text
        assert not (folder / "WIDER_train" / "0--Parade").exists()
        assert len(read_labels(folder / "train.txt")) == 3


class TestFddb:
    def test_our_reader_takes_it(self, fddb: DataSet, folder: Path) -> None:
        obtain(plan_download(fddb, folder))
        said = arrange_fddb(folder)
        labels = folder / "FDDB-ellipses.txt"
        assert recognise(labels) == "fddb"
        assert [picture.boxes_xywh.tolist() for picture in read_labels(labels)] == [
            [[60, 100, 80, 40]], [[41, 42, 18, 16], [141, 42, 18, 16]],
        ]  # fmt: skip
        assert f"2 pictures, 3 faces: {labels}" in said
        assert len(read_labels(folder / "FDDB-folds" / "FDDB-fold-01-ellipseList.txt")) == 1
        assert arrange_fddb(folder) == said

    def test_without_folds(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match="expected FDDB-fold"):
            arrange_fddb(tmp_path)

    def test_first_sha256_is_recorded_and_holds(
        self, fddb: DataSet, folder: Path, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "facekit"):
            obtain(plan_download(fddb, folder))
        sums = folder / "archives" / "sha256sums.txt"
        lines = [f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in FDDB_FILES.items()]
        assert sums.read_text().splitlines() == lines
        assert "known is only an md5" in caplog.text and lines[0].split()[0] in caplog.text
        # Somebody unpacks it anew, and the server has another file, whatever its md5.
        shutil.rmtree(folder / "FDDB-folds")
        (folder / "archives" / "FDDB-folds.tgz").unlink()
        data = in_tgz({"FDDB-folds/FDDB-fold-01-ellipseList.txt": b""})
        server.files["FDDB-folds.tgz"] = data
        other = changed(fddb, "FDDB-folds.tgz", identity=Identity(None, None, hashlib.md5(data).hexdigest()))
        with pytest.raises(FacekitError, match="sha256") as caught:
            obtain(plan_download(other, folder))
        assert f"take its line out of {sums}" in str(caught.value)

    def test_nothing_published_is_said(self, fddb: DataSet, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "facekit"):
            obtain(plan_download(changed(fddb, "FDDB-folds.tgz", identity=Identity(None)), folder))
        assert "FDDB-folds.tgz: its makers publish no sha256 (known is no digest, so that it is taken on trust)" in (
            caplog.text
        )


class TestObtain:
    def test_archive_given_by_hand(self, wider: DataSet, folder: Path, server: Server) -> None:
        (folder / "archives").mkdir(parents=True)
        for name, data in WIDER_FILES.items():
            (folder / "archives" / name).write_bytes(data)
        plan = plan_download(wider, folder, ("test",))
        assert plan.text().count("is there, in archives") == 4
        obtain(plan)
        assert not server.requests
        assert len(list((folder / "WIDER_train" / "images").rglob("*.jpg"))) == 3

    def test_wrong_archive_given_by_hand(self, wider: DataSet, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        (folder / "archives").mkdir(parents=True)
        (folder / "archives" / "WIDER_val.zip").write_bytes(b"other")
        with caplog.at_level(logging.WARNING, "facekit"):
            get_wider(wider, folder)
        assert "WIDER_val.zip: got 5 bytes" in caplog.text
        assert (folder / "archives" / "WIDER_val.zip").read_bytes() == WIDER_FILES["WIDER_val.zip"]

    def test_first_mirror_dead(self, wider: DataSet, folder: Path, server: Server) -> None:
        urls = ("http://127.0.0.1:9/WIDER_val.zip", server.url("gone.zip"), server.url("WIDER_val.zip"))
        get_wider(changed(wider, "WIDER_val.zip", urls=urls), folder)
        assert (folder / "WIDER_val" / "images").is_dir()

    def test_no_mirror(self, wider: DataSet, folder: Path, server: Server) -> None:
        server.files["wider_face_split.zip"] = b"\0" * len(WIDER_FILES["wider_face_split.zip"])
        urls = ("http://127.0.0.1:9/a.zip", server.url("gone.zip"), server.url("wider_face_split.zip"))
        wider = changed(wider, "wider_face_split.zip", urls=urls)
        with pytest.raises(FacekitError) as caught:
            obtain(plan_download(wider, folder, ("test",)))
        text = str(caught.value)
        for reason in (f"{urls[0]}: ", "refused", f"{urls[1]}: ", "Not Found", f"{urls[2]}: ", "sha256"):
            assert reason in text
        digest = hashlib.sha256(WIDER_FILES["wider_face_split.zip"]).hexdigest()
        assert f"put it into {folder / 'archives'}" in text and digest in text
        # What came before is done and stays done; by hand it goes on.
        (folder / "archives" / "wider_face_split.zip").write_bytes(WIDER_FILES["wider_face_split.zip"])
        server.requests.clear()
        assert "3 pictures" in get_wider(wider, folder)
        assert server.requests == [("eval_tools.zip", None)]

    def test_cut_off_then_resumed(self, wider: DataSet, folder: Path, server: Server) -> None:
        server.cut_after = 1000
        with pytest.raises(FacekitError, match="cut off"):
            get_wider(wider, folder)
        assert not (folder / "WIDER_train").exists()
        server.cut_after = None
        assert "3 pictures" in get_wider(wider, folder)
        assert server.requests[1] == ("WIDER_train.zip", "bytes=1000-")

    def test_evil_archive_stops_it(self, wider: DataSet, folder: Path, server: Server) -> None:
        data = in_zip({"WIDER_val/images/x.jpg": b"", "WIDER_val/../../evil": b""})
        server.files["WIDER_val.zip"] = data
        wider = changed(wider, "WIDER_val.zip", identity=Identity(len(data), hashlib.sha256(data).hexdigest()))
        with pytest.raises(FacekitError, match="may leave it"):
            get_wider(wider, folder)
        assert not (folder / "WIDER_val").exists()
        assert not (folder.parent / "evil").exists()

    def test_unpacked_by_somebody_else(
        self, wider: DataSet, folder: Path, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        with zipfile.ZipFile(io.BytesIO(WIDER_FILES["WIDER_train.zip"])) as content:
            content.extractall(folder)
        with caplog.at_level(logging.INFO, "facekit"):
            get_wider(wider, folder)
        assert f"{folder / 'WIDER_train'} is there, unpacked by somebody else" in caplog.text
        assert "WIDER_train.zip" not in [name for name, _ in server.requests]
        get_wider(wider, folder)  # with the links beside its pictures

    @pytest.mark.parametrize(
        ("name", "said"), [("images/a.jpg", "it has 1 of 3 pictures"), ("b.txt", "images is missing")]
    )
    def test_another_folder_of_that_name(self, wider: DataSet, folder: Path, name: str, said: str) -> None:
        mine = folder / "WIDER_train" / name
        mine.parent.mkdir(parents=True)
        mine.write_bytes(b"mine")
        with pytest.raises(FacekitError, match=said):
            plan_download(wider, folder)
        assert mine.read_bytes() == b"mine"

    def test_disk_without_room(self, wider: DataSet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        needed = plan_download(wider, folder).needed_bytes
        assert needed > sum(map(len, WIDER_FILES.values()))
        usage = shutil.disk_usage(folder)._replace(free=needed - 1)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(FacekitError, match="of free disk space"):
            plan_download(wider, folder)
        plan_download(wider, folder, ("test",))  # needs less

    def test_half_of_it_is_counted_as_there(self, wider: DataSet, folder: Path) -> None:
        needed = plan_download(wider, folder).needed_bytes
        (folder / "archives").mkdir(parents=True)
        (folder / "archives" / "WIDER_train.zip.partial").write_bytes(bytes(1000))
        assert plan_download(wider, folder).needed_bytes == needed - 1000

    def test_destination_is_a_file(self, wider: DataSet, folder: Path) -> None:
        folder.parent.mkdir()
        folder.touch()
        with pytest.raises(FacekitError, match="can't write there"):
            plan_download(wider, folder)
