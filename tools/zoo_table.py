"""Writes model_templates/face-detection/README.md, and the short table of README.md, from the templates:
python tools/zoo_table.py

What was measured here stands in model_templates/face-detection/measured.yaml, which tools/verify_parity.py writes.
"""

from __future__ import annotations

from typing import Any

import yaml

from facekit.template import TEMPLATES_DIR, Template, load_template

README = TEMPLATES_DIR.parent.parent / "README.md"
SHORT_START, SHORT_END = "<!-- zoo, by tools/zoo_table.py -->\n", "<!-- end of zoo -->\n"
MEASURED = TEMPLATES_DIR / "measured.yaml"
SUBSETS = ("widerface_e", "widerface_m", "widerface_h")
HEAD = """# Face detection

<!-- Written by tools/zoo_table.py from the templates and measured.yaml; a test compares. -->

Published: as the makers of the weights state it, on the whole WIDER FACE validation set. Measured: the same weights in
PyTorch here, on 566 of its pictures (every sixth of each event), official protocol, by `tools/verify_parity.py`. Both
easy / medium / hard in per cent. The protocol is part of a figure: sizes, thresholds, number of boxes.

"""
SECOND = """
## What was verified with real weights, and what by structure alone

`with real weights`: published weights were imported, every tensor accounted for; every box over score 0.3 of the
makers' own runtime is found at IoU over 0.98 and a score within 0.005, and the measured figures are within 0.3 points
of that runtime's on the same pictures; the exported ONNX and OpenVINO files give the same. `by structure`: no published
weights were at hand; parameters and operations agree with the published ones where there are any, the graph exports and
agrees with PyTorch, and the network learns eight pictures by heart (`tools/verify_overfit.py`).

"""
TAIL = """
Operations are counted as the published tables count them (`facekit flops --per-layer` says how); GFLOPs are 2 x MACs.
COCO AP and AP over 64 px, as published for the OpenVINO templates, stand in each template's `metrics`.

Licences: the code is Apache-2.0; the weights' licences stand above. They were trained on WIDER FACE, whose pictures are
for research only: ask your own counsel before you sell what they find.
"""


def page() -> str:
    """The zoo's page, whole."""
    templates, measured = _sources()
    return HEAD + zoo(templates, measured) + SECOND + verification(templates, measured) + TAIL


def readme() -> str:
    """README.md with its short table as it should be."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(SHORT_START)
    after = rest.split(SHORT_END)[1]
    return before + SHORT_START + short(*_sources()) + SHORT_END + after


def _sources() -> tuple[list[Template], dict[str, Any]]:
    templates = [load_template(path) for path in sorted(TEMPLATES_DIR.glob("*/template.yaml"))]
    return templates, yaml.safe_load(MEASURED.read_text(encoding="utf-8"))


def short(templates: list[Template], measured: dict[str, Any]) -> str:
    rows = []
    for template in templates:
        published = {metric.key: metric.value for metric in template.metrics}
        figures = [
            f"{row['easy']:.1f} / {row['medium']:.1f} / {row['hard']:.1f}" for row in measured.get(template.name, [])
        ]
        link = f"[{template.name}](model_templates/face-detection/{template.name}/template.yaml)"
        rows.append([link, template.summary, f"{published['size']:.3g} M", f"{published['complexity'] / 2:.3g}",
                     figures[0] if figures else "-"])  # fmt: skip
    return as_table(["template", "what it is", "params", "GMACs", "WIDER easy / medium / hard\\*"], rows)


def zoo(templates: list[Template], measured: dict[str, Any]) -> str:
    heads = [
        "Template", "Input", "Params (M)", "GMACs", "Landmarks", "Published", "Measured", "Licence of weights",
        "Weights",
    ]  # fmt: skip
    rows = []
    for template in templates:
        published = {metric.key: metric.value for metric in template.metrics}
        figures = [f"{published[key]:g}" for key in SUBSETS if key in published]
        height, width = template.input.size_hw
        # Measured at this size, but made for any.
        size = f"{width}x{height}" + ("" if template.evaluation.feeds_one_size else ", any")
        licences = dict.fromkeys(source.licence for source in template.snapshot)
        links = [
            f"[{'.pth' if source.format == 'torch' else 'IR'}]({source.files[0].url})" for source in template.snapshot
        ]
        rows.append([
            f"[{template.name}](./{template.name}/template.yaml)", size, f"{published['size']:.3g}",
            f"{published['complexity'] / 2:.3g}", "yes" if "landmarks" in template.summary else "no",
            " / ".join(figures) or "-", "<br>".join(measurements(measured.get(template.name, []))) or "-",
            "; ".join(licences) or "-", ", ".join(links) or "none fetched",
        ])  # fmt: skip
    return as_table(heads, rows)


def measurements(rows: list[dict[str, Any]]) -> list[str]:
    rows = [row for row in rows if row["kind"] == "pth"]
    return [f"{row['easy']:.2f} / {row['medium']:.2f} / {row['hard']:.2f} ({row['protocol']})" for row in rows]


def verification(templates: list[Template], measured: dict[str, Any]) -> str:
    rows = [
        [template.name, verified(measured[template.name]) if template.name in measured
         else "by structure"]
        for template in templates
    ]  # fmt: skip
    return as_table(["Template", "Verified"], rows)


def verified(rows: list[dict[str, Any]]) -> str:
    if {row["kind"] for row in rows} >= {"pth", "onnx", "bin"}:
        return f"with real weights: {rows[0]['weights']}"
    return f"tensor by tensor against the published {rows[0]['weights']} (tests); no reference figures at hand"


def as_table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


if __name__ == "__main__":
    (TEMPLATES_DIR / "README.md").write_text(page(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")
