"""Tiny archives of the published shape, and a server of them in place of the published ones."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.io import savemat

from facekit.base.download import Identity
from facekit.datasets import arrange
from facekit.datasets.arrange import arrange_widerface
from facekit.datasets.catalogue import Archive, DataSet
from facekit.datasets.obtain import obtain, plan_download

if TYPE_CHECKING:
    from tests.conftest import Server

Files = Mapping[str, bytes]


def picture(width: int, height: int) -> bytes:
    noise = np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def mat(**content: object) -> bytes:
    file = io.BytesIO()
    savemat(file, content)
    return file.getvalue()


def cells(*rows: object) -> np.ndarray:
    """(n, 1) cells, as MATLAB keeps them."""
    out = np.empty((len(rows), 1), object)
    for i, row in enumerate(rows):
        out[i, 0] = row
    return out


def in_zip(files: Files) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as content:
        for name, data in files.items():
            content.writestr(name, data)
    return packed.getvalue()


def in_tgz(files: Files) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as content:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            content.addfile(info, io.BytesIO(data))
    return packed.getvalue()


ZEROS = " 0 0 0 0 0 0\n"
TRAIN_TXT = (
    f"0--Parade/0_Parade_a_1.jpg\n2\n5 6 20 30{ZEROS}1 2 3 0{ZEROS}0--Parade/0_Parade_a_2.jpg\n0\n0 0 0 0{ZEROS}"
    f"1--Handshaking/1_Handshaking_b_1.jpg\n1\n10 10 12 13{ZEROS}"
)
VAL_TXT = f"0--Parade/0_Parade_v_1.jpg\n1\n8 9 10 11{ZEROS}"
GROUND_TRUTH = {
    "wider_face_val.mat": mat(
        event_list=cells("0--Parade"), file_list=cells(cells("0_Parade_v_1")),
        face_bbx_list=cells(cells(np.array([[8.0, 9, 10, 11]]))),
    ),
    **dict.fromkeys(
        ("wider_easy_val.mat", "wider_medium_val.mat", "wider_hard_val.mat"),
        mat(gt_list=cells(cells(np.array([[1]], np.uint8)))),
    ),
}  # fmt: skip
WIDER_FILES = {
    "WIDER_train.zip": in_zip({
        "WIDER_train/images/0--Parade/0_Parade_a_1.jpg": picture(64, 48),
        "WIDER_train/images/0--Parade/0_Parade_a_2.jpg": picture(60, 48),
        "WIDER_train/images/1--Handshaking/1_Handshaking_b_1.jpg": picture(40, 48),
    }),
    "WIDER_val.zip": in_zip({"WIDER_val/images/0--Parade/0_Parade_v_1.jpg": picture(32, 48)}),
    "WIDER_test.zip": in_zip({"WIDER_test/images/0--Parade/0_Parade_t_1.jpg": picture(32, 48)}),
    "wider_face_split.zip": in_zip({
        "wider_face_split/wider_face_train_bbx_gt.txt": TRAIN_TXT.encode(),
        "wider_face_split/wider_face_val_bbx_gt.txt": VAL_TXT.encode(),
    }),
    "eval_tools.zip": in_zip(
        {f"eval_tools/ground_truth/{name}": data for name, data in GROUND_TRUTH.items()}
        | {"eval_tools/wider_eval.m": b"%", "__MACOSX/x": b""}
    ),
}  # fmt: skip
PICTURES = {"train": 3, "val": 1, "test": 1, "": 0}
FDDB_FILES = {
    "originalPics.tar.gz": in_tgz({
        "2002/08/11/big/img_591.jpg": picture(300, 300), "2003/01/02/big/img_3.jpg": picture(200, 100),
        "2003/01/02/big/img_4.jpg": picture(90, 90),
    }),
    "FDDB-folds.tgz": in_tgz({
        "FDDB-folds/FDDB-fold-01.txt": b"2002/08/11/big/img_591\n",
        "FDDB-folds/FDDB-fold-01-ellipseList.txt": b"2002/08/11/big/img_591\n1\n40 20 0 100 120  1\n",
        "FDDB-folds/FDDB-fold-02-ellipseList.txt": b"2003/01/02/big/img_3\n2\n9 8 0 50 50  1\n9 8 0 150 50  1",
    }),
}  # fmt: skip


def served(data_set: DataSet, files: Files, server: Server) -> DataSet:
    """The published data set with our archives in place of its own."""

    def ours(archive: Archive) -> Archive:
        data = files[archive.name]
        server.files[archive.name] = data
        sha256 = hashlib.sha256(data).hexdigest() if archive.identity.sha256 else None
        identity = Identity(archive.identity.size and len(data), sha256, hashlib.md5(data).hexdigest())
        urls = (server.url(archive.name),)
        return dataclasses.replace(archive, urls=urls, identity=identity, pictures=PICTURES[archive.part])

    return dataclasses.replace(data_set, archives=tuple(ours(archive) for archive in data_set.archives))


def changed(data_set: DataSet, name: str, **fields: object) -> DataSet:
    archives = (dataclasses.replace(a, **fields) if a.name == name else a for a in data_set.archives)
    return dataclasses.replace(data_set, archives=tuple(archives))


def get_wider(wider: DataSet, folder: Path, leave_out: tuple[str, ...] = ("test",), **options: bool) -> str:
    obtain(plan_download(wider, folder, leave_out), **options)
    return arrange_widerface(folder, [part for part in arrange.WIDER_PARTS if part not in leave_out])


def held(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time of change and content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
