"""Published data sets: where their archives are, what they are known by, and what their makers allow.

Sizes and digests are copied from the sources named at each; none of the hosts was asked for them by us.
"""

from __future__ import annotations

from dataclasses import dataclass

from facekit.base.download import Identity
from facekit.datasets.unpack import Limits


@dataclass(frozen=True)
class Archive:
    """One published file, and what becomes of it."""

    name: str
    urls: tuple[str, ...]  # mirrors, in the order they are tried
    identity: Identity
    inside: str  # the folder in the archive that is wanted; "": all of it
    folder: str  # where that goes, below the data set's folder
    limits: Limits  # about twice what is published
    needed: tuple[str, ...] = ()  # files by which a folder that somebody else unpacked is recognised ...
    pictures: int = 0  # ... and how many .jpg are in its images/; 0: not counted
    part: str = ""  # of a set that can be left out: train, val, test


@dataclass(frozen=True)
class DataSet:
    """A data set as its makers publish it."""

    title: str
    licence: str  # shown before anything is downloaded
    archives: tuple[Archive, ...]


_SITE = "http://shuoyang1213.me/WIDERFACE/support"  # no https there
_OLD_SITE = "http://mmlab.ie.cuhk.edu.hk/projects/WIDERFace/support"
_HUGGING_FACE = "https://huggingface.co/datasets/CUHK-CSE/wider_face/resolve/main/data"  # the site links to it
_PADDLE = "https://dataset.bj.bcebos.com/wider_face"  # PaddleDetection's; its wider_face_split.zip is another file
_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="


def _wider_pictures(part: str, drive_id: str, identity: Identity, pictures: int) -> Archive:
    name = f"WIDER_{part}.zip"
    mirrors = (f"{_HUGGING_FACE}/{name}", f"{_PADDLE}/{name}", f"{_DRIVE}{drive_id}")
    limits = Limits(2 * pictures, identity.size * 3 // 2 if identity.size else 0)
    return Archive(
        name, mirrors if part != "test" else (mirrors[0], mirrors[2]), identity, f"WIDER_{part}", f"WIDER_{part}",
        limits, ("images",), pictures, part,
    )  # fmt: skip


WIDERFACE = DataSet(
    title="WIDER FACE (Yang, Luo, Loy, Tang: WIDER FACE: A Face Detection Benchmark, CVPR 2016)",
    licence=(
        "WIDER FACE is for research only. Its makers publish it under CC BY-NC-ND 4.0 on Hugging Face: name them, no\n"
        "commercial use, pass on no changed copies. The pictures belong to their owners.\n"
        "http://shuoyang1213.me/WIDERFACE/"
    ),
    archives=(
        # Size and sha256: tensorflow/datasets, tensorflow_datasets/url_checksums/wider_face.txt. md5 and Google Drive
        # ids: pytorch/vision, torchvision/datasets/widerface.py. PaddleDetection's download.py names the same md5.
        _wider_pictures(
            "train", "15hGDLhsx8bLgLcIRD5DhYt5iBxnjNF1M",
            Identity(
                1_465_602_149, "e23b76129c825cafae8be944f65310b2e1ba1c76885afe732f179c41e5ed6d59",
                "3fedf70df600953d25982bcd13d91ba2",
            ), 12_880,
        ),
        _wider_pictures(
            "val", "1GUCogbp16PMGa39thoMMeWxp7Rp5oM8Q",
            Identity(
                362_752_168, "f9efbd09f28c5d2d884be8c0eaef3967158c866a593fc36ab0413e4b2a58a17a",
                "dfa7d7e790efa35df3788964cf0bbaea",
            ), 3_226,
        ),
        _wider_pictures(
            "test", "1HIfDbVEWKmsYKJZm4lchTBDLW5N7dY5T",
            Identity(
                1_844_140_520, "3b0313e11ea292ec58894b47ac4c0503b230e12540330845d70a7798241f88d3",
                "e5d8f4248ed24c334bbd12f49c29dd40",
            ), 16_097,
        ),
        # The same two sources.
        Archive(
            "wider_face_split.zip",
            (
                f"{_HUGGING_FACE}/wider_face_split.zip", f"{_SITE}/bbx_annotation/wider_face_split.zip",
                f"{_OLD_SITE}/bbx_annotation/wider_face_split.zip",
            ),
            Identity(
                3_591_642, "c7561e4f5e7a118c249e0a5c5c902b0de90bbf120d7da9fa28d99041f68a8a5c",
                "0e3767bcf0e326556d407bf5bff5d27c",
            ),
            "wider_face_split", "wider_face_split", Limits(100, 200_000_000),
            ("wider_face_train_bbx_gt.txt", "wider_face_val_bbx_gt.txt"),
        ),
        # Two public projects that checked it name this size and sha256 independently of each other: cv_lakehouse
        # (Lionel Peer, sources/wider_face.py), and a report that names this md5 too. TensorFlow has no entry for it.
        Archive(
            "eval_tools.zip",
            (f"{_SITE}/eval_script/eval_tools.zip", f"{_OLD_SITE}/eval_script/eval_tools.zip"),
            Identity(
                8_447_003, "1cf49c8243fa8a1632efe7f6aa09fd7a3994ac838c9008bdbc9dd1d547bb234a",
                "358576548629ca5dd6fc4b2de15b10ae",
            ),
            "eval_tools/ground_truth", "labelv2/val/gt", Limits(2_000, 200_000_000),
            ("wider_face_val.mat", "wider_easy_val.mat", "wider_medium_val.mat", "wider_hard_val.mat"),
        ),
    ),
)  # fmt: skip

_UMASS = "vis-www.cs.umass.edu/fddb"

FDDB = DataSet(
    title="FDDB (Jain, Learned-Miller: FDDB: A Benchmark for Face Detection in Unconstrained Settings, UM-CS-2010-009)",
    licence=(
        "FDDB is published for research; its makers name no licence. The pictures are press photographs (Berg et al.,\n"
        "Names and Faces in the News, CVPR 2004) and belong to their owners: use them for nothing else, don't pass\n"
        "them on. http://vis-www.cs.umass.edu/fddb/"
    ),
    archives=(
        # md5 of both: github.com/penolove/FDDB_DataSet_4_faster_rcnn, get_data.sh. Size of the pictures: a session
        # with wget in a log of Xilinx Vitis AI (2021). No sha256 is published of either, no size of the folds.
        Archive(
            "originalPics.tar.gz",
            (
                f"https://{_UMASS}/originalPics.tar.gz", f"http://{_UMASS}/originalPics.tar.gz",
                "http://tamaraberg.com/faceDataset/originalPics.tar.gz",
            ),
            Identity(579_061_091, None, "cf414253ac596cd858daae0cc321d793"),
            "", "originalPics", Limits(80_000, 1_200_000_000), ("2002", "2003"),
        ),
        Archive(
            "FDDB-folds.tgz", (f"https://{_UMASS}/FDDB-folds.tgz", f"http://{_UMASS}/FDDB-folds.tgz"),
            Identity(None, None, "4cf9badc939a3398a0d6f3a3c8540f55"),
            "FDDB-folds", "FDDB-folds", Limits(100, 50_000_000), ("FDDB-fold-01-ellipseList.txt",),
        ),
    ),
)  # fmt: skip

DATA_SETS = {"widerface": WIDERFACE, "fddb": FDDB}
