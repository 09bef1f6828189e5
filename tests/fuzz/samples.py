"""Good files of every kind, to be made bad."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.io import savemat

from facekit.base.schema import plain_data
from facekit.engine.training.options import TrainOptions
from facekit.machine.environment import environment
from facekit.models import build_model
from facekit.records.run import RunRecord, RunResult, Session, digest_data, write_record
from facekit.template import find_template, load_template
from facekit.weights.checkpoint import new_meta

TEMPLATE = "yunet-n"


def checkpoint_content() -> dict[str, Any]:
    """A training's checkpoint, small, of random weights."""
    template = load_template(find_template(TEMPLATE))
    torch.manual_seed(0)
    network = build_model(template)
    state = dict(network.state_dict())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9).state_dict()
    optimizer["state"] = {n: {"momentum_buffer": torch.zeros_like(p)} for n, p in enumerate(network.parameters())}
    return {
        "meta": new_meta(template, 3, 30) | {"best_ap": 50.0, "training": {"batch_size": 2, "processes": 1, "seed": 0}},
        "state_dict": state,
        "optimizer": optimizer,
        "extra": {
            "scaler": {},
            "random": [{"cpu": torch.get_rng_state()}],
            "average": {"steps": 3, "stepped": {name: tensor.clone() for name, tensor in state.items()}},
        },
    }


def write_run_record(folder: Path, pictures: Path) -> Path:
    """run.json of a run that would take a second."""
    options = TrainOptions(
        TEMPLATE, save_checkpoints_to=folder / "out", train_ann_files=(pictures / "labels.json",), workers=0, epochs=1,
        max_iterations=1, batch_size=1, gpu_num=0,
    )  # fmt: skip
    digest = digest_data([], ())
    session = Session("facekit train", str(folder), "2026-01-01 00:00:00 UTC", 0, environment("cpu"), ())
    record = RunRecord(
        plain_data(load_template(find_template(TEMPLATE))), plain_data(options), digest, digest, None, (session,),
        RunResult("2026-01-01 00:00:01 UTC", 1, 1, "0" * 64),
    )  # fmt: skip
    write_record(folder, record)
    return folder / "run.json"


def journal() -> str:
    """log.jsonl of a few iterations."""
    lines = [
        {"epoch": 1, "iteration": i, "loss": 1 / i, "loss_box": 0.5 / i, "learning_rate": 0.01, "seconds": 0.1 * i}
        for i in range(1, 20)
    ]
    return "".join(json.dumps(line) + "\n" for line in [*lines, {"epoch": 1, "iteration": 19, "ap": 30.0}])


def write_pictures(folder: Path) -> Path:
    """Three small pictures and their labels: labels.json, YOLO in yolo/, VOC in voc/, WIDER in wider.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(3):
        name = f"{number}.{'png' if number == 2 else 'jpg'}"
        cv2.imwrite(str(folder / name), random.integers(0, 255, (64, 96, 3)).astype(np.uint8))
        images.append({"id": number, "file_name": name, "width": 96, "height": 64})
        points = [20, 20, 2, 40, 20, 2, 30, 30, 2, 22, 40, 2, 38, 40, 2]
        face = {
            "id": number,
            "image_id": number,
            "category_id": 1,
            "bbox": [10, 10, 40, 40],
            "area": 1600,
            "iscrowd": 0,
        }
        annotations.append(face | {"keypoints": points, "num_keypoints": 5})
    categories = [{"id": 1, "name": "face"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(content, indent=1))
    (folder / "wider.txt").write_text("".join(f"{i['file_name']}\n1\n10 10 40 40 0 0 0 0 0 0\n" for i in images))
    return folder


def write_ground_truth(folder: Path) -> Path:
    """The four official files, of two pictures."""
    folder.mkdir(parents=True, exist_ok=True)

    def cells(values: list[Any]) -> Any:
        made = np.empty((len(values), 1), dtype=object)
        for index, value in enumerate(values):
            made[index, 0] = value
        return made

    boxes = np.array([[10, 10, 40, 40]], dtype=np.int32)
    shared = {
        "event_list": cells(["e"]),
        "file_list": cells([cells(["a", "b"])]),
        "face_bbx_list": cells([cells([boxes, boxes])]),
    }
    savemat(folder / "wider_face_val.mat", shared)
    for subset in ("easy", "medium", "hard"):
        one = np.array([[1]], dtype=np.uint8)
        savemat(folder / f"wider_{subset}_val.mat", {"gt_list": cells([cells([one, one])])})
    return folder


def write_video(path: Path) -> None:
    """Two seconds of a moving block."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for number in range(20):
        frame = np.full((64, 96, 3), 90, np.uint8)
        frame[20:50, number * 2 : number * 2 + 40] = (120, 160, 220)
        writer.write(frame)
    writer.release()


def write_archive(path: Path, pictures: Path) -> None:
    """WebDataset's."""
    with tarfile.open(path, "w") as archive:
        for picture in sorted(pictures.glob("[0-9].*")):
            archive.add(picture, picture.name)


def write_table(path: Path, pictures: Path) -> None:
    """A column of bytes beside one of names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = sorted(pictures.glob("[0-9].*"))
    columns = {"path": [picture.name for picture in found], "bytes": [picture.read_bytes() for picture in found]}
    pq.write_table(pa.table(columns), path)
