"""Writes docs/zoo.md, model_templates/face-detection/README.md and the table of README.md from the templates:
python tools/zoo_table.py

What was measured here stands beside the templates: measured.yaml by tools/verify_parity.py, speed.yaml by
tools/measure_speed.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from facekit.template import Template, load_template

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = PROJECT / "model_templates" / "face-detection"
README, FOLDER_PAGE, ZOO_PAGE = PROJECT / "README.md", FOLDER / "README.md", PROJECT / "docs" / "zoo.md"
SHORT_START, SHORT_END = "<!-- zoo, by tools/zoo_table.py -->\n", "<!-- end of zoo -->\n"
SHORT_ROWS = (  # one of each kind, the smallest first
    "yunet-s", "yunet-n", "ultralight-rfb-320", "scrfd-0.5g", "face-detection-0200", "face-detection-0205",
)  # fmt: skip
SUBSETS = ("widerface_e", "widerface_m", "widerface_h")

ZOO_HEAD = """# The zoo

<!-- Written by tools/zoo_table.py from the templates, measured.yaml and speed.yaml; a test compares. -->

Nineteen templates. Each is one file, `model_templates/face-detection/NAME/template.yaml`, and `NAME` is all that a
command needs: `facekit instantiate yunet-n my_detector`.

## Which one

- Small, fast, landmarks, faces of any size: `yunet-n`. Smaller still: `yunet-s`.
- Landmarks, and more parameters to learn from your pictures: `scrfd-0.5g`.
- A fixed small input on a small board, boxes alone: `ultralight-rfb-320`; faces farther away: `ultralight-rfb-640`.
- Large and middle-sized faces, boxes alone, OpenVINO: `face-detection-0200`; better and slower: `-0202`, `-0204`,
  `-0205`.
- The best figures, at 400 times the operations: `face-detection-0206`.

"""
CHOICE = """
Measured: easy / medium / hard of WIDER FACE's official protocol in per cent, on 566 of its 3,226 validation pictures
(every sixth of each event), with published weights in PyTorch, each at its template's own protocol (below).

{speed}

GMACs: at the template's size. Operations are counted as the published tables count them (`facekit flops --per-layer`
says how); GFLOPs are 2 x GMACs.

## Published and measured

Published: as the makers of the weights state it, on the whole WIDER FACE validation set. Measured: the same weights
here, on the 566 pictures, by `tools/verify_parity.py`. The protocol is part of a figure: sizes, thresholds, number of
boxes. COCO AP and AP over 64 px, as published for the OpenVINO templates, stand in each template's `metrics`.

"""
VERIFIED = """
## What was verified with real weights, and what by structure alone

`with real weights`: published weights were imported, every tensor accounted for. Every box over score 0.3 of the
makers' own runtime is found at IoU over 0.98 and a score within 0.005. The measured figures are within 0.3 points of
that runtime's on the same pictures. The exported ONNX and OpenVINO files give the same.

`by structure`: no published weights were at hand. Parameters and operations agree with the published ones where there
are any. The graph exports and agrees with PyTorch. The network learns eight pictures by heart
(`tools/verify_overfit.py`).

"""
WEIGHTS = """
## Weights and their licences

The code is Apache-2.0. The weights were trained on WIDER FACE, whose pictures are for research only: ask your own
counsel before you sell what they find.

"""
BUNDLED = """
## The bundled detector

`Detector.bundled()` and `facekit visualize` without weights run a yunet-n that facekit trained itself, so that a face
is found in the first minute and without network. `model_templates/face-detection/yunet-n/MODEL_CARD.md` has its figures
beside those of the published weights, its commands, its curve, its licence and its limits. For work on your own
pictures start from the published weights: they are better on every subset. `Detector.bundled(int8=True)` is the same in
INT8 by OpenVINO: a sixth less time, and within 0.1 points of AP.
"""
FOLDER_HEAD = """# Face detection

<!-- Written by tools/zoo_table.py; a test compares. -->

One folder a template. Figures, published and measured, weights and licences: [the zoo](../../docs/zoo.md). What the
keys of a template.yaml mean: [templates](../../docs/templates.md).

"""


def zoo_page() -> str:
    """docs/zoo.md, whole."""
    templates, measured, speed = _sources()
    told = CHOICE.format(speed=_speed_words(speed))
    parts = [
        ZOO_HEAD, choice(templates, measured, speed["templates"]), told, figures(templates, measured), VERIFIED,
        verification(templates, measured), WEIGHTS, weights(templates), BUNDLED,
    ]  # fmt: skip
    return "".join(parts)


def folder_page() -> str:
    """model_templates/face-detection/README.md, whole."""
    rows = [[f"[{template.name}](./{template.name}/template.yaml)", template.summary] for template in _sources()[0]]
    return FOLDER_HEAD + as_table(["template", "what it is"], rows)


def readme() -> str:
    """README.md with its table as it should be."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(SHORT_START)
    after = rest.split(SHORT_END)[1]
    return before + SHORT_START + short(*_sources()) + SHORT_END + after


def _sources() -> tuple[list[Template], dict[str, Any], dict[str, Any]]:
    templates = [load_template(path) for path in sorted(FOLDER.glob("*/template.yaml"))]
    measured, speed = (
        yaml.safe_load((FOLDER / name).read_text(encoding="utf-8")) for name in ("measured.yaml", "speed.yaml")
    )
    return templates, measured, speed


def _speed_words(speed: dict[str, Any]) -> str:
    return (
        f"KB: model.onnx. ms: one {speed['picture']} picture to faces in {speed['runtime']}, one thread of an "
        f"{speed['machine']}, the least of {speed['repeats']} (`{speed['command']}`)."
    )


def short(templates: list[Template], measured: dict[str, Any], speed: dict[str, Any]) -> str:
    by_name = {template.name: template for template in templates}
    rows = []
    for name in SHORT_ROWS:
        first, cost = measured[name][0], speed["templates"][name]
        size = first["protocol"].split(";")[0].split(",")[0]
        rows.append([name, _points(by_name[name]), size, _aps(first), f"{cost['ms']:.1f}", _kilobytes(cost)])
    heads = ["template", "finds", "picture", "easy / medium / hard", "ms", "KB"]
    return as_table(heads, rows) + f"\n{_speed_words(speed)}\n"


def _points(template: Template) -> str:
    return "boxes, 5 points" if "landmarks" in template.summary else "boxes"


def _aps(row: dict[str, Any]) -> str:
    return f"{row['easy']:.1f} / {row['medium']:.1f} / {row['hard']:.1f}"


def _kilobytes(cost: dict[str, Any]) -> str:
    return f"{cost['onnx_bytes'] / 1000:.0f}"


def choice(templates: list[Template], measured: dict[str, Any], speed: dict[str, Any]) -> str:
    heads = ["Template", "What it is", "Input", "Params (M)", "GMACs", "KB", "ms", "Measured"]
    rows = []
    for template in templates:
        published = {metric.key: metric.value for metric in template.metrics}
        height, width = template.input.size_hw
        # Measured at this size, but made for any.
        size = f"{width}x{height}" + ("" if template.evaluation.feeds_one_size else ", any")
        cost = speed.get(template.name)
        rows.append([
            f"`{template.name}`", template.summary, size, f"{published['size']:.3g}",
            f"{published['complexity'] / 2:.3g}", _kilobytes(cost) if cost else "-",
            f"{cost['ms']:.1f}" if cost else "-",
            _aps(measured[template.name][0]) if template.name in measured else "-",
        ])  # fmt: skip
    return as_table(heads, rows)


def figures(templates: list[Template], measured: dict[str, Any]) -> str:
    rows = []
    for template in templates:
        published = {metric.key: metric.value for metric in template.metrics}
        known = [f"{published[key]:g}" for key in SUBSETS if key in published]
        here = [
            f"{row['easy']:.2f} / {row['medium']:.2f} / {row['hard']:.2f} ({row['protocol']})"
            for row in measured.get(template.name, [])
            if row["kind"] == "pth"
        ]
        rows.append([f"`{template.name}`", " / ".join(known) or "-", "<br>".join(here) or "-"])
    return as_table(["Template", "Published", "Measured (protocol)"], rows)


def weights(templates: list[Template]) -> str:
    rows = []
    for template in templates:
        licences = dict.fromkeys(source.licence for source in template.snapshot)
        links = [
            f"[{'.pth' if source.format == 'torch' else 'IR'}]({source.files[0].url})" for source in template.snapshot
        ]
        rows.append([f"`{template.name}`", "; ".join(licences) or "-", ", ".join(links) or "none fetched"])
    return as_table(["Template", "Licence of the weights", "Weights"], rows)


def verification(templates: list[Template], measured: dict[str, Any]) -> str:
    rows = [
        [f"`{template.name}`", verified(measured[template.name]) if template.name in measured else "by structure"]
        for template in templates
    ]
    return as_table(["Template", "Verified"], rows)


def verified(rows: list[dict[str, Any]]) -> str:
    if {row["kind"] for row in rows} >= {"pth", "onnx", "bin"}:
        return f"with real weights: {rows[0]['weights']}"
    return f"tensor by tensor against the published {rows[0]['weights']} (tests); no reference figures at hand"


def as_table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


if __name__ == "__main__":
    for path, text in ((ZOO_PAGE, zoo_page()), (FOLDER_PAGE, folder_page()), (README, readme())):
        path.write_text(text, encoding="utf-8")
