"""A small good data set of each format, and where in it a mistake can be made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 40, 30
BOXES = [[1, 2, 5, 6], [3, 4, 5, 6]]  # of the first picture; the second has no face
NAMES = ("e/a.jpg", "e/b c.jpg")
POINTS = "2 4 0 5 4 0 3 5 0 2 7 0 5 7 0"
UPRIGHT = "1.5707963267948966"  # radians
SHAPE = '{"label": "face", "points": %s, "group_id": null, "shape_type": "rectangle", "flags": {}}'
BOX = '<box label="face" xtl="{}" ytl="{}" xbr="{}" ybr="{}" occluded="0" z_order="0"></box>'


@dataclass(frozen=True)
class Sample:
    """A data set on the disk."""

    source: Path
    data_root: Path | None
    picture: Path  # the first
    listed: str  # where the first picture is named
    names: Path  # the file that names the pictures
    labels: Path  # the file that holds the first picture's faces
    face: str  # its second face, as the file has it
    place: str  # what an error about that face starts with

    def replace(self, new: str) -> None:
        """The second face as `new`."""
        content = self.labels.read_text()
        assert content.count(self.face) == 1
        self.labels.write_text(content.replace(self.face, new))


TEXT = {
    "wider": (f"{NAMES[0]}\n2\n1 2 5 6 0 1 0 1 2 0 \n", "3 4 5 6 0 0 0 0 0 0", f"\n{NAMES[1]}\n0\n{'0 ' * 10}\n"),
    "labelv2": (f"# {NAMES[0]} 40 30\n1 2 6 8 {POINTS}\n", "3 4 8 10", f"\n# {NAMES[1]} 40 30\n"),
    "retinaface": (f"# {NAMES[0]}\n1 2 5 6 {POINTS} 0.5\n", f"3 4 5 6 {'-1.0 ' * 15}0.1", f"\n# {NAMES[1]}\n"),
    "fddb": (
        f"{NAMES[0][:-4]}\n2\n3 2.5 {UPRIGHT} 3.5 5  1\n", f"3 2.5 {UPRIGHT} 5.5 7  1", f"\n{NAMES[1][:-4]}\n0\n"
    ),
}  # fmt: skip
YOLO_FACES = {
    "yolo": ("0 0.0875 0.1666666667 0.125 0.2", "0 0.1375 0.2333333333 0.125 0.2"),
    "yolo-face": (f"0 0.0875 0.1666666667 0.125 0.2 {'0.1 ' * 10}", f"0 0.1375 0.2333333333 0.125 0.2 {'-1 ' * 9}-1"),
}
OBJECT = (
    "<object><name>face</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def text_sample(name: str, root: Path) -> Sample:
    before, face, after = TEXT[name]
    file = _write(root / "labels.txt", before + face + after)
    picture = _pictures(root / "pictures", NAMES)
    line = before.count("\n") + 1
    return Sample(file, root / "pictures", picture, f"{file}:1", file, file, face, f"{file}:{line}: ")


def coco_sample(name: str, root: Path) -> Sample:
    images = [{"id": i, "file_name": file, "width": WIDTH, "height": HEIGHT} for i, file in enumerate(NAMES)]
    annotations = [{"id": i, "image_id": 0, "category_id": 1, "bbox": box} for i, box in enumerate(BOXES)]
    content = json.dumps({"images": images, "annotations": annotations}, ensure_ascii=False)
    file = _write(root / "labels.json", content.replace("}, {", "},\n{").replace("], ", "],\n"))
    picture = _pictures(root, NAMES)
    return Sample(file, None, picture, "images[0]", file, file, "[3, 4, 5, 6]", f"{file}: annotations[1].bbox: ")


def voc_sample(name: str, root: Path) -> Sample:
    flat = name == "voc"
    files = [file.replace("/", "_") if flat else file for file in NAMES]
    pictures, labels = (root / "JPEGImages", root / "Annotations") if flat else (
        root / "WIDER_train", root / "WIDER_train/Annotations"
    )  # fmt: skip
    for file, boxes in zip(files, (BOXES, []), strict=True):
        objects = "".join(OBJECT.format(x, y, x + w, y + h) + "\n" for x, y, w, h in boxes)
        path = Path(file)
        folder = "" if flat else "e"
        _write(
            labels / f"{path.stem}.xml",
            f"<annotation><folder>{folder}</folder><filename>{path.name}</filename>\n"
            f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>\n{objects}</annotation>\n",
        )
    stems = [Path(file).stem for file in files]
    names = _write(root / ("ImageSets/Main/train.txt" if flat else "train.txt"), "\n".join([*stems, ""]))
    xml = labels / f"{stems[0]}.xml"
    face = OBJECT.format(3, 4, 8, 10)
    return Sample(root, None, _pictures(pictures, files), f"{xml}:1", names, xml, face, f"{xml}:4: ")


def yolo_sample(name: str, root: Path) -> Sample:
    first, second = YOLO_FACES[name]
    picture = _pictures(root / "images", NAMES)
    labels = _write(root / "labels/e/a.txt", f"{first}\n{second}\n")
    _write(root / "labels/e/b c.txt", "")
    names = _write(root / "train.txt", "".join(f"./images/{file}\n" for file in NAMES))
    source = _write(root / "data.yaml", "train: train.txt\nnames: [face]\n")
    return Sample(source, None, picture, f"{names}:1", names, labels, second, f"{labels}:2: ")


def beside_sample(name: str, root: Path) -> Sample:
    """A file of labels beside each picture."""
    picture = _pictures(root, NAMES)
    for file, boxes in zip(NAMES, (BOXES, []), strict=True):
        path = root / file
        corners = [(x, y, x + w, y + h) for x, y, w, h in boxes]
        if name == "labelme":
            shapes = ",\n".join(SHAPE % (f"[[{a}, {b}], [{c}, {d}]]",) for a, b, c, d in corners)
            rest = f'"imagePath": "{path.name}", "imageHeight": {HEIGHT}, "imageWidth": {WIDTH}'
            _write(path.with_suffix(".json"), f'{{"version": "5.5.0",\n"shapes": [\n{shapes}], {rest}}}\n')
        else:
            objects = "\n".join(OBJECT.format(*each) for each in corners)
            size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
            content = f"<filename>{path.name}</filename>{size}\n{objects}"
            _write(path.with_suffix(".xml"), f"<annotation><folder>e</folder>{content}\n</annotation>\n")
    if name == "labelme":
        labels = root / "e/a.json"
        return Sample(root, None, picture, str(labels), root / "e/b c.json", labels, "[[3, 4], [8, 10]]",
                      f"{labels}: shapes[1]: ")  # fmt: skip
    labels = root / "e/a.xml"
    return Sample(root, None, picture, f"{labels}:1", root / "e/b c.xml", labels, OBJECT.format(3, 4, 8, 10),
                  f"{labels}:3: ")  # fmt: skip


def cvat_sample(name: str, root: Path) -> Sample:
    images = []
    for number, (file, boxes) in enumerate(zip(NAMES, (BOXES, []), strict=True)):
        shapes = "\n".join(BOX.format(x, y, x + w, y + h) for x, y, w, h in boxes)
        start = f'<image id="{number}" name="{file}" width="{WIDTH}" height="{HEIGHT}">'
        images.append(f"{start}\n{shapes}\n</image>\n")
    labels = _write(root / "annotations.xml", f"<annotations><version>1.1</version>\n{''.join(images)}</annotations>\n")
    picture = _pictures(root / "images", NAMES)
    return Sample(labels, root / "images", picture, f"{labels}: <image> 0", labels, labels, BOX.format(3, 4, 8, 10),
                  f"{labels}: <image> 0, shape 1: ")  # fmt: skip


SAMPLES: dict[str, Callable[[str, Path], Sample]] = {
    "coco": coco_sample, "wider": text_sample, "labelv2": text_sample, "retinaface": text_sample, "voc": voc_sample,
    "voc-wider": voc_sample, "yolo": yolo_sample, "yolo-face": yolo_sample, "fddb": text_sample,
    "voc-beside": beside_sample, "labelme": beside_sample, "cvat": cvat_sample,
}  # fmt: skip


def _pictures(folder: Path, names: list[str] | tuple[str, ...]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return folder / names[0]


def _write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path
