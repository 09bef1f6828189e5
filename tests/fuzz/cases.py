"""Commands over files made bad, of every kind that is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import onnx

from facekit.template import find_template, known_templates
from tests.fuzz.mutations import (
    NUMBERS,
    YAML_VALUES,
    mutated_bytes,
    mutated_content,
    mutated_json,
    mutated_text,
    torch_bytes,
)
from tests.fuzz.samples import TEMPLATE, checkpoint_content

Case = Callable[[Random, Path, Path], list[str]]  # random numbers, samples, the case's folder -> arguments


def checkpoints(random: Random, samples: Path, folder: Path) -> list[str]:
    """Ours and others', by bytes and by content."""
    content: Any = checkpoint_content()
    content = random.choice([content, content, content["state_dict"], {"model": content["state_dict"], "epoch": 3}])
    path = folder / "a.pth"
    if random.random() < 0.75:
        path.write_bytes(torch_bytes(mutated_content(random, content)))
    else:
        path.write_bytes(mutated_bytes(random, torch_bytes(content)))
    given = ["--template", TEMPLATE]
    return random.choice([
        ["import-weights", str(path), *given, "--output", "out/b.pth"],
        ["instantiate", TEMPLATE, "out/work", "--snapshot", str(path)],
        ["visualize", *given, "--load-weights", str(path), "--images", str(samples / "pictures"), "--output", "out"],
        ["train", *given, "--train-ann-files", str(samples / "pictures" / "labels.json"), "--resume-from", str(path),
         "--epochs", "4", "--max-iterations", "1", "--batch-size", "1", "--workers", "0", "--gpu-num", "0",
         "--save-checkpoints-to", "out"],
    ])  # fmt: skip


def graphs(random: Random, samples: Path, folder: Path) -> list[str]:
    """ONNX and IR."""
    kind = random.choice(["onnx", "onnx bytes", "xml", "bin"])
    for suffix in ("onnx", "xml", "bin"):
        shutil.copyfile(samples / "export" / f"model.{suffix}", folder / f"a.{suffix}")
    if kind == "onnx":
        (folder / "a.onnx").write_bytes(_mutated_onnx(random, (folder / "a.onnx").read_bytes()))
    elif kind == "onnx bytes":
        (folder / "a.onnx").write_bytes(mutated_bytes(random, (folder / "a.onnx").read_bytes()))
    elif kind == "xml":
        values = ["-1", "0", "3", "9" * 30, "1000000000", "x", "f16", "i64", "Broadcast", "Tile"]
        text = mutated_text(random, (folder / "a.xml").read_text(), values)
        (folder / "a.xml").write_text(text, errors="replace")
    else:
        (folder / "a.bin").write_bytes(mutated_bytes(random, (folder / "a.bin").read_bytes()))
    name = "a.onnx" if "onnx" in kind else "a.xml"
    template = ["--template", "yunet-n"] if random.random() < 0.7 else []
    images = ["--images", str(samples / "pictures"), "--output", "out"]
    return ["visualize", *template, "--load-weights", name, *images]


def _mutated_onnx(random: Random, data: bytes) -> bytes:
    model = onnx.load_from_string(data)
    graph = model.graph
    for _ in range(random.choice([1, 1, 2, 4])):
        action = random.randrange(7)
        node = random.choice(graph.node)
        if action == 0:
            tensor = random.choice(graph.initializer)
            tensor.dims[:] = random.choice([[1 << 40], [-1], [0], [3], [1 << 20, 1 << 20], list(tensor.dims)[::-1]])
        elif action == 1:
            random.choice(graph.initializer).data_type = random.randrange(1, 20)
        elif action == 2:
            shape = random.choice([*graph.input, *graph.output]).type.tensor_type
            shape.elem_type = random.choice([1, 1, 7, 9, 10, 11, shape.elem_type])
            for side in shape.shape.dim:
                if random.random() < 0.5:
                    side.dim_value = random.choice([-1, 0, 1, 3, 100_000, 1 << 40])
        elif action == 3:
            node.op_type = random.choice(
                ["Relu", "Exp", "Tile", "Expand", "Loop", "Nothing", "Log", "Shape", "Squeeze"]
            )
        elif action == 4 and node.attribute:
            attribute = random.choice(node.attribute)
            attribute.ints[:] = [int(n) % 2**62 for n in random.sample(NUMBERS, 2) if n == n and abs(n) < 1e300]
        elif action == 5:
            random.choice(graph.output).name = random.choice(["x", "", "boxes", graph.output[0].name])
        else:
            graph.node.remove(node)
    changed: bytes = model.SerializeToString()
    return changed


def templates(random: Random, samples: Path, folder: Path) -> list[str]:
    """template.yaml of any detector."""
    small = [name for name in known_templates() if name != "face-detection-0206"]  # a large network takes its seconds
    name = random.choice(["yunet-n", *small])
    text = mutated_text(random, find_template(name).read_text(encoding="utf-8"), YAML_VALUES)
    (folder / "template.yaml").write_text(text, encoding="utf-8", errors="replace")
    return random.choice([
        ["flops", "template.yaml"],
        ["instantiate", "template.yaml", "out/work", "--no-snapshot"],
        ["visualize", "--template", ".", "--load-weights", str(samples / "export" / "model.onnx"), "--images",
         str(samples / "pictures"), "--output", "out"],
        ["priors", str(samples / "pictures" / "labels.json"), "--template", ".", "--output", "out/new.yaml"],
    ])  # fmt: skip


def labels(random: Random, samples: Path, folder: Path) -> list[str]:
    """COCO, WIDER, YOLO and VOC."""
    shutil.copytree(samples / "pictures", folder / "set", dirs_exist_ok=True)
    kind = random.choice(["labels.json", "wider.txt", "yolo", "voc"])
    source = folder / "set" / kind
    numbers = ["-1", "nan", "1e308", "9" * 5000, "x", "0", "", "1e-30", "&a;", "<x>"]
    if kind == "labels.json":
        source.write_text(mutated_json(random, source.read_text()), errors="replace")
    elif kind == "wider.txt":
        source.write_text(mutated_text(random, source.read_text(), numbers), errors="replace")
    else:
        source = folder / kind
        shutil.copytree(samples / kind, source)
        texts = [path for path in sorted(source.rglob("*")) if path.suffix in (".txt", ".xml", ".yaml")]
        for path in random.sample(texts, min(2, len(texts))):
            path.write_text(mutated_text(random, path.read_text(), numbers), errors="replace")
    return random.choice([
        ["data", "check", str(source), "--workers", "0"],
        ["data", "convert", str(source), "out/new", "--to", random.choice(["coco", "yolo", "voc", "wider"])],
        ["data", "browse", str(source), "--output", "out/page.html"],
    ])  # fmt: skip


def pictures(random: Random, samples: Path, folder: Path) -> list[str]:
    """JPEG and PNG."""
    for name in ("0.jpg", "2.png"):
        (folder / name).write_bytes(mutated_bytes(random, (samples / "pictures" / name).read_bytes()))
    return ["visualize", "0.jpg", "2.png", str(samples / "pictures" / "1.jpg"), "--output", "out"]


def predictions(random: Random, samples: Path, folder: Path) -> list[str]:
    """An .npz, or a folder of result files."""
    given = folder / "a.npz"
    if random.random() < 0.5:
        given.write_bytes(mutated_bytes(random, (samples / "predictions.npz").read_bytes()))
    else:
        given = folder / "results"
        (given / "e").mkdir(parents=True)
        for name in ("a", "b"):
            text = mutated_text(random, f"{name}\n1\n1 2 3 4 0.5\n", ["-1", "nan", "1e999", "9" * 5000, "x"])
            (given / "e" / f"{name}.txt").write_text(text, encoding="utf-8", errors="replace")
    return ["eval-predictions", str(given), "--wider-gt", str(samples / "ground_truth")]


def records(random: Random, samples: Path, folder: Path) -> list[str]:
    """run.json and log.jsonl."""
    (folder / "run.json").write_text(mutated_json(random, (samples / "run.json").read_text()), errors="replace")
    journal = mutated_text(
        random, (samples / "log.jsonl").read_text(), ["1e308", "-1", "null", "9" * 5000, "NaN", "[]"]
    )
    (folder / "log.jsonl").write_text(journal, errors="replace")
    return random.choice(
        [
            ["plot", "log.jsonl", "--output", "out/course.svg"],
            ["reproduce", "run.json", "--save-checkpoints-to", "out", "--force"],
        ]
    )


def others(random: Random, samples: Path, folder: Path) -> list[str]:
    """Files of the other runtimes."""
    shutil.copytree(samples / "others", folder / "others")
    files = [path for path in sorted((folder / "others").iterdir()) if path.suffix not in (".md", ".mnn", ".pte")]
    changed = random.choice(files)
    if changed.suffix == ".param":
        text = mutated_text(random, changed.read_text(), ["-1", "0", "3", "9" * 30, "1000000000", "Tile", "x"])
        changed.write_text(text, errors="replace")
    else:
        changed.write_bytes(mutated_bytes(random, changed.read_bytes()))
    opened = changed.with_name(changed.name.replace(".ncnn.bin", ".ncnn.param"))
    picture = str(samples / "pictures" / "1.jpg")
    return random.choice([
        ["detect", picture, "--model", str(opened), "--jsonl", "out/a.jsonl"],
        ["benchmark", str(opened), "--size", "96x64", "--rounds", "1"],
    ])  # fmt: skip


def rows(random: Random, samples: Path, folder: Path) -> list[str]:
    """What a killed `detect` left behind, and lists of pictures."""
    pictures = samples / "pictures"
    kind = random.choice(["journal", "parts", "list"])
    if kind == "journal":
        lines = (samples / "rows.jsonl.unfinished").read_text().splitlines(keepends=True)
        if random.random() < 0.5:
            at = random.randrange(len(lines))
            row, tab, name = lines[at].partition("\t")
            lines[at] = mutated_json(random, row).replace("\n", " ") + tab + (name or "\n")
            (folder / "a.jsonl.unfinished").write_text("".join(lines), errors="replace")
        else:
            (folder / "a.jsonl.unfinished").write_bytes(mutated_bytes(random, "".join(lines).encode()))
        return ["detect", str(pictures), "--threshold", "0", "--jsonl", "a.jsonl", "--resume"]
    if kind == "parts":
        shutil.copytree(samples / "parts", folder / "parts")
        manifest = folder / "parts" / "_facekit" / "manifest.json"
        # A run goes on where it was alone.
        manifest.write_text(manifest.read_text().replace(str(samples / "parts"), str(folder / "parts")))
        changed = random.choice(sorted(path for path in (folder / "parts").rglob("*") if path.is_file()))
        changed.write_bytes(mutated_bytes(random, changed.read_bytes()))
        flags = ["--engine", "ray", "--num-workers", "1", "--shard-size", "1", "--resume"]
        return ["detect", str(pictures), "--threshold", "0", "--jsonl", "parts", *flags]
    names = "".join(f"{path}\n" for path in sorted(pictures.glob("[0-9].*")))
    values = ["http://127.0.0.1:9/a.jpg", "s3://", "a{0..9}.jpg", "//", "file:///dev/zero", "\0", "-", ".."]
    text = mutated_text(random, names.replace(".jpg", " 7.jpg"), values)
    (folder / "list.txt").write_text(text, errors="replace")
    return ["detect", "--from-file", "list.txt", "--csv", "out/a.csv"]


def videos(random: Random, samples: Path, folder: Path) -> list[str]:
    """A film made bad."""
    (folder / "a.mp4").write_bytes(mutated_bytes(random, (samples / "video.mp4").read_bytes()))
    return random.choice([
        ["detect", "a.mp4", "--jsonl", "out/a.jsonl", "--draw", "out/b.mp4"],
        ["detect", "a.mp4", "--track", "--every", "3", "--csv", "out/a.csv"],
        ["anonymize", "a.mp4", "--output", "out/b.mp4", "--report", "out/report.jsonl"],
        ["visualize", "a.mp4", "--output", "out"],
    ])  # fmt: skip


def archives(random: Random, samples: Path, folder: Path) -> list[str]:
    """WebDataset's tars and Parquet tables."""
    name = random.choice(["a.tar", "a.parquet"])
    data = (samples / f"pictures{Path(name).suffix}").read_bytes()
    (folder / name).write_bytes(mutated_bytes(random, data))
    return ["detect", name, "--jsonl", "out/rows"]


KINDS: dict[str, Case] = {
    "checkpoints": checkpoints, "graphs": graphs, "templates": templates, "labels": labels, "pictures": pictures,
    "predictions": predictions, "records": records, "others": others, "rows": rows, "videos": videos,
    "archives": archives,
}  # fmt: skip
