"""The documentation is true: its commands run, its flags and keys exist, its links lead somewhere."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
import yaml

from facekit.cli import cli
from facekit.template import Template

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += [PROJECT / "model_templates" / "face-detection" / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(?:<!-- tested: ([a-z ]+) -->\n)?```([a-z]+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Rows of docs/promises.md, and the constants that they tell of.
LIMITS = {
    "picture: pixels, by its header": ["pictures.headers:MAX_PIXELS"],
    "picture: bytes": ["pictures.read:MAX_PICTURE_BYTES"],
    "label file: bytes": [
        "labels.formats.text_lines:MAX_LABEL_BYTES", "labels.formats.voc_xml:MAX_XML_BYTES",
        "labels.formats.cvat_xml:MAX_CVAT_BYTES", "labels.formats.yolo_yaml:MAX_YAML_BYTES",
    ],
    "label file: memory of a JSON's values": ["labels.formats.json_file:MAX_JSON_MEMORY"],
    "label file: faces a picture": ["labels.formats.counted:MAX_FACES"],
    "label file: points a face": ["labels.keypoints:MAX_POINTS"],
    "label file: coordinates": ["labels.picture_labels:MAX_COORDINATE"],
    "checkpoint (.pth): bytes": ["weights.torch_file:MAX_BYTES"],
    "checkpoint (.pth): unpacked": ["weights.torch_file:MAX_UNPACKED"],
    "ONNX file: bytes": ["weights.onnx_file:MAX_BYTES"],
    "OpenVINO's .xml, .bin: bytes": ["weights.ir_file:MAX_XML_BYTES", "weights.ir_file:MAX_BIN_BYTES"],
    "graph: numbers of one tensor": ["weights.onnx_file:MAX_ELEMENTS", "weights.ir_file:MAX_ELEMENTS"],
    "template: bytes": ["schema:MAX_YAML_BYTES"],
    "template: pixels of the input": ["template:MAX_INPUT_PIXELS"],
    "template: priors of an input": ["models:MAX_PRIORS"],
    "record of a run (run.json): bytes": ["records.run:MAX_BYTES"],
    "journal of a run (log.jsonl): bytes": ["pages.curves:MAX_BYTES"],
    "WIDER result file: bytes; boxes of all": ["results.wider:MAX_TEXT_BYTES", "results.wider:MAX_ROWS"],
    "predictions in an .npz: bytes, also unpacked": ["results.wider:MAX_BYTES"],
    "report that is read back: bytes": ["pages.evaluation:MAX_PAGE_BYTES"],
    "download of a file whose size nobody states: bytes": ["download:MAX_UNKNOWN_BYTES"],
    "download: silence, headers": ["download:TIMEOUT_S", "download:ANSWER_S", "download:WINDOW_S"],
    "`facekit flops --input-size`": ["commands.flops:LONGEST_SIDE"],
}  # fmt: skip
WORK_DIR_SCRIPTS = {f"{name}.py": name for name in ("train", "eval", "export", "compress", "visualize")}


def name_of(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def block(page: str, name: str) -> str:
    found = [text for mark, _, text in BLOCK.findall((PROJECT / page).read_text(encoding="utf-8")) if mark == name]
    assert len(found) == 1, f"{page}: {len(found)} blocks {name!r}"
    return found[0]


def run_bash(commands: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=PROJECT, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT), **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def run_python(code: str, folder: Path = PROJECT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[0-9]+\.?[0-9]*", text)]


# Blocks that run


@pytest.mark.parametrize("page", ["README.md", "docs/quick-start.md"])
def test_first_look_finds_the_face(page: str, tmp_path: Path) -> None:
    done = run_bash(block(page, "first look").replace(" faces.jpg", f" {tmp_path}/faces.jpg"))
    assert "astronaut.jpg: 1 faces in" in done.stderr
    drawn, plain = cv2.imread(str(tmp_path / "faces.jpg")), cv2.imread(str(PROJECT / "data/demo/astronaut.jpg"))
    changed_y, changed_x = np.nonzero(np.abs(drawn.astype(int) - plain).max(axis=2) > 60)
    # Her face, as measured in the picture, the score above it, and nothing far from it.
    assert 165 < changed_x.min() < 195 and 255 < changed_x.max() < 285
    assert 30 < changed_y.min() < 100 and 160 < changed_y.max() < 195


@pytest.mark.parametrize(
    ("page", "name", "least"),
    [
        ("README.md", "python", 15),
        ("docs/quick-start.md", "python", 15),
        ("docs/python.md", "bundled detector", 8),
        ("docs/python.md", "passes", 1),
    ],
)
def test_python_lines(page: str, name: str, least: int) -> None:
    assert len(numbers(run_python(block(page, name)))) >= least


def test_flops() -> None:
    assert "params:  75,856" in run_bash(block("docs/commands/flops.md", "flops")).stdout
    assert "params:  75,856" in run_python(block("docs/python.md", "commands"))


def test_templates_are_listed() -> None:
    assert "yunet-n" in run_bash(block("docs/commands/templates.md", "templates")).stdout


def test_walkthrough_raises_ap(shared_dir: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / "my_model"
    done = run_bash(
        block("docs/quick-start.md", "walkthrough"),
        AIRPORT=str(shared_dir / "data" / "airport"),
        IR=str(shared_dir / "weights" / "openvino" / "face-detection-0200.xml"),
        WORK_DIR=str(work_dir),
    )
    assert "Warning" not in done.stderr and "deprecated" not in done.stderr.lower()

    def ap(name: str) -> float:
        metrics = yaml.safe_load((work_dir / name).read_text())["metrics"]
        return next(float(metric["value"]) for metric in metrics if metric["key"] == "ap")

    assert ap("metrics_after.yaml") > ap("metrics_before.yaml") + 2
    for made in ("outputs/latest.pth", "export/model.onnx", "compressed/model.bin", "found/image_000000.jpg"):
        assert (work_dir / made).is_file()


@pytest.fixture(scope="module")
def exported_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds model.onnx of the bundled yunet-n, and the portrait where the pages have it."""
    from facekit.detector import BUNDLED_WEIGHTS
    from facekit.targets.export import export_weights
    from facekit.template import find_template, load_template

    folder = tmp_path_factory.mktemp("exported")
    export_weights(BUNDLED_WEIGHTS, load_template(find_template("yunet-n")), folder, openvino=False)
    return with_portrait(folder)


def with_portrait(folder: Path) -> Path:
    (folder / "data").symlink_to(PROJECT / "data")
    return folder


def face_of_detector() -> tuple[list[float], float]:
    """x, y, w, h and score of the portrait's face, as facekit has them."""
    from facekit import Detector

    faces = Detector.bundled().detect(cv2.imread(str(PROJECT / "data/demo/astronaut.jpg")))
    left, top, right, bottom = map(float, faces.boxes_xyxy[0])
    return [left, top, right - left, bottom - top], float(faces.scores[0])


def test_decoding_yunet_is_the_detector(exported_dir: Path) -> None:
    printed = numbers(run_python(block("docs/deployment.md", "decode yunet"), exported_dir))
    box, score = face_of_detector()
    assert printed[:4] == pytest.approx(box, abs=0.1)
    assert printed[4] == pytest.approx(score, abs=0.001)
    assert len(printed) == 15  # one face, five points


def test_opencv_scores_are_the_root(exported_dir: Path) -> None:
    printed = numbers(run_python(block("docs/deployment.md", "face detector yn"), exported_dir))
    box, score = face_of_detector()
    assert printed[:4] == pytest.approx(box, abs=1)
    assert printed[4] == pytest.approx(score**0.5, abs=0.001)


def test_decoding_one_size_finds_the_face(shared_dir: Path, tmp_path: Path) -> None:
    from facekit.targets.export import export_weights
    from facekit.template import find_template, load_template

    weights = shared_dir / "weights" / "openvino" / "face-detection-0200.xml"
    export_weights(weights, load_template(find_template("face-detection-0200")), tmp_path, openvino=False)
    printed = numbers(run_python(block("docs/deployment.md", "decode one size"), with_portrait(tmp_path)))
    assert printed[:4] == pytest.approx([180, 54, 93, 120], abs=20)
    assert len(printed) == 5 and 0.5 < printed[4] <= 1


def test_the_example_of_a_model_learns_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from facekit.models import MODELS, build_model
    from facekit.structures import Targets
    from facekit.targets.export import export_weights
    from facekit.template import load_template
    from facekit.weights.checkpoint import Checkpoint, new_meta, save_checkpoint

    (tmp_path / "four_convolutions.py").write_text(block("docs/adding-a-model.md", "model file"))
    (tmp_path / "template.yaml").write_text(block("docs/adding-a-model.md", "model template"))
    spec = importlib.util.spec_from_file_location("four_convolutions", tmp_path / "four_convolutions.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "four_convolutions", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(MODELS, "four_convolutions", module.FourConvolutions)
    template = load_template(tmp_path / "template.yaml")

    torch.manual_seed(0)
    network: Any = build_model(template)
    published = {metric.key: metric.value for metric in template.metrics}
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(published["size"], rel=0.01)
    priors = network.head.priors(template.input.size_hw).tensors()
    targets = Targets(
        torch.tensor([[40.0, 40.0, 90.0, 90.0]]), torch.tensor([0]), torch.zeros(1, 10), torch.tensor([False]), 1
    )
    image = torch.zeros(1, 3, 128, 128)
    image[:, :, 40:90, 40:90] = 1
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = sum(network.losses(network(image), targets, priors).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    save_checkpoint(tmp_path / "latest.pth", Checkpoint(new_meta(template, 1, 30), network.state_dict()))
    (path,) = export_weights(tmp_path / "latest.pth", template, tmp_path / "export", openvino=False)
    assert path.name == "model.onnx"


def test_every_marked_block_is_run() -> None:
    marked = {(name_of(page), mark) for page in PAGES for mark, _, _ in BLOCK.findall(page.read_text("utf-8")) if mark}
    run_here = set(re.findall(r'block\("([^"]+)", "([^"]+)"\)', Path(__file__).read_text()))
    run_here |= {(page, "first look") for page in ("README.md", "docs/quick-start.md")}
    run_here |= set(re.findall(r'\("((?:README|docs/[a-z-]+)\.md)", "([a-z ]+)", [0-9]+\)', Path(__file__).read_text()))
    run_here.add(("docs/cluster.md", "torchrun"))  # tests/test_cluster_page.py
    assert marked == run_here


# What is said of commands, keys and places


def blocks(*languages: str) -> list[tuple[str, str]]:
    return [
        (name_of(page), text)
        for page in PAGES
        for _, language, text in BLOCK.findall(page.read_text(encoding="utf-8"))
        if language in languages
    ]


def test_every_block_has_a_language() -> None:
    for page in PAGES:
        opened = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)[::2]
        assert set(opened) <= {"bash", "python", "yaml", "text"}, name_of(page)


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python_parses(page: str, code: str) -> None:
    ast.parse(code)


@pytest.mark.parametrize(("page", "code"), blocks("bash"))
def test_commands_and_flags_exist(page: str, code: str) -> None:
    subprocess.run(["bash", "-n"], input=code, text=True, check=True)
    for line in code.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|;", line):
            check_command(page, shlex.split(part, comments=True))


def check_command(page: str, words: list[str]) -> None:
    """Follows `facekit eval ...`, `python DIR/eval.py ...` and `-m facekit eval ...` to the flags."""
    command: click.Command
    if "facekit" in words and words[max(words.index("facekit") - 1, 0)] in ("-m", "facekit"):
        command, rest = cli, words[words.index("facekit") + 1 :]
    elif len(words) > 1 and words[0] == "python" and Path(words[1]).name in WORK_DIR_SCRIPTS:
        command, rest = cli.commands[WORK_DIR_SCRIPTS[Path(words[1]).name]], words[2:]
    else:
        scripts = [word for word in words if word.startswith("tools/")]
        assert all((PROJECT / script).is_file() for script in scripts), f"{page}: {words}"
        return
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"{page}: there is no command {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    for word in rest:
        if word.startswith("--"):
            assert word.split("=")[0] in known, f"{page}: facekit {command.name} has no flag {word}"


def test_every_command_has_its_table() -> None:
    tables = runpy.run_path(str(PROJECT / "tools" / "command_tables.py"))
    named = []
    for page in sorted((PROJECT / "docs" / "commands").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert tables["filled"](text) == text, f"run python tools/command_tables.py: {page.name} is not as it is now"
        named += re.findall(r"<!-- options: ([a-z -]+) -->", text)
    assert sorted(named) == sorted(words for words, _ in tables["commands"]())


def test_every_command_stands_in_the_list() -> None:
    index = (PROJECT / "docs" / "commands" / "index.md").read_text(encoding="utf-8")
    for words, _ in runpy.run_path(str(PROJECT / "tools" / "command_tables.py"))["commands"]():
        assert f"[{words}](" in index, words


def fields_of(kind: Any) -> set[str]:
    """Names of the fields of a dataclass and of all dataclasses in it."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is not None:
        return set().union(*(fields_of(argument) for argument in typing.get_args(kind)))
    if not dataclasses.is_dataclass(kind):
        return set()
    hints = typing.get_type_hints(kind)
    named = {field.name for field in dataclasses.fields(kind)}
    return named.union(*(fields_of(hints[name]) for name in named))


def test_every_key_of_a_template_is_explained() -> None:
    page = (PROJECT / "docs" / "templates.md").read_text(encoding="utf-8")
    words = set(re.findall(r"[a-z0-9_]+", " ".join(re.findall(r"`([^`]*)`", page))))
    # Of a section that is read elsewhere, not keys.
    assert fields_of(Template) - words - {"file", "key", "node"} == set()


def defaults_of(kind: Any) -> dict[str, Any]:
    """Of the optional fields of a dataclass and of all dataclasses in it, by key; compression's with their section."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is not None:
        found: dict[str, Any] = {}
        for argument in typing.get_args(kind):
            found |= defaults_of(argument)
        return found
    if not dataclasses.is_dataclass(kind):
        return {}
    hints, found = typing.get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        inner = defaults_of(hints[field.name])
        is_section = field.name in ("quantization", "sparsity")
        found |= {f"{field.name}.{key}" if is_section else key: value for key, value in inner.items()}
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
    return found


def test_defaults_of_a_template_are_as_it_says() -> None:
    page = (PROJECT / "docs" / "templates.md").read_text(encoding="utf-8")
    told = {
        key: yaml.safe_load(value) for key, value in re.findall(r"^\| `([a-z_.]+)` \|.*\| `([^`|]+)` \|$", page, re.M)
    }
    known = {key: list(value) if isinstance(value, tuple) else value for key, value in defaults_of(Template).items()}
    # Those of one kind of crop stand in its words; a missing head is that of an old template.
    assert told == {key: value for key, value in known.items() if key not in ("empty_crop_probability", "head")}


def test_every_label_format_has_its_row() -> None:
    from facekit.labels.formats import FORMATS, WRITTEN

    page = (PROJECT / "docs" / "labels.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`[a-z0-9-]+`(?:, )?)+)(read only)? \|", page, re.MULTILINE)
    names = {name: bool(read_only) for row, read_only in rows for name in re.findall(r"`([a-z0-9-]+)`", row)}
    assert names == {name: name not in WRITTEN for name in FORMATS}


def test_limits_are_as_promised() -> None:
    page = (PROJECT / "docs" / "promises.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE))
    for what, places in LIMITS.items():
        for place in places:
            module, _, name = place.partition(":")
            limit = getattr(importlib.import_module(f"facekit.{module}"), name)
            assert any(words in told[what] for words in in_words(limit)), (
                f"{what}: {told[what]}, but {place} is {limit}"
            )


def in_words(limit: float) -> set[str]:
    """67108864 may be told as 67,108,864 or 64 MiB."""
    units = (
        {f"{limit >> shift} {unit}" for shift, unit in ((10, "KiB"), (20, "MiB"), (30, "GiB")) if limit >> shift}
        if isinstance(limit, int)
        else set()
    )
    return {f"{limit:,.0f}", *units}


def headings(page: Path) -> set[str]:
    """The anchors that GitHub and mkdocs make."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        place, _, anchor = target.partition("#")
        aim = (page.parent / place).resolve() if place else page
        assert aim.exists(), f"{name_of(page)}: {target}"
        assert not anchor or anchor in headings(aim), f"{name_of(page)}: {target}"


def test_paths_in_words_exist() -> None:
    for page in PAGES:
        if page.name in ("CHANGELOG.md", "coming-from.md"):
            continue  # of versions gone by, and of other projects
        for path in re.findall(
            r"`((?:facekit|tools|tests|model_templates|data/demo)/[\w./-]+)`", page.read_text("utf-8")
        ):
            is_example = "NAME" in path or "four" in path
            assert is_example or (PROJECT / path).exists(), f"{name_of(page)}: {path}"


def test_every_page_is_in_the_menu() -> None:
    menu = yaml.safe_load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    def places(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry
        return [place for part in parts for place in places(part)]

    assert sorted(places(menu)) == sorted(
        page.relative_to(PROJECT / "docs").as_posix() for page in PAGES if "docs" in page.relative_to(PROJECT).parts
    )
