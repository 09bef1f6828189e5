"""Writes model_templates/face-detection/README.md from the templates: python tools/zoo_table.py"""

from __future__ import annotations

from facekit.template import TEMPLATES_DIR, Template, load_template

COLUMNS = {
    "complexity": "Complexity (GFLOPs)",
    "size": "Size (Mp)",
    "ap": "AP @ [IoU=0.50:0.95] (%)",
    "ap_64x64": "AP for faces > 64x64 (%)",
    "widerface_e": "WiderFace Easy (%)",
    "widerface_m": "WiderFace Medium (%)",
    "widerface_h": "WiderFace Hard (%)",
}
HEAD = """# Face detection

<!-- Written by tools/zoo_table.py from the templates; a test compares. -->

Figures as published by the makers of the weights, on the WIDER FACE validation set. `tools/verify_parity.py` measures
the same weights here. The protocol is the template's own: thresholds, resizing and the number of boxes are part of it.

"""
TAIL = """
GFLOPs are 2 x MACs, counted as the published tables count (convolutions, biases, batch norms, activations, pooling);
yunet-n at 640x640 (its own table gives 149 MMACs at 320x320).

Licences: the code is Apache-2.0; each template's `snapshot` states its weights' licence. The weights were trained on
WIDER FACE, whose pictures are for research only: ask your own counsel before you sell what they find.
"""


def table() -> str:
    """The page, whole."""
    templates = [load_template(path) for path in sorted(TEMPLATES_DIR.glob("*/template.yaml"))]
    heads = ["Model", *COLUMNS.values(), "Protocol", "Links", "GPU_NUM"]
    rows = [heads, ["---"] * len(heads), *(row(template) for template in templates)]
    return HEAD + "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n" + TAIL


def row(template: Template) -> list[str]:
    published = {metric.key: f"{metric.value:g}" for metric in template.metrics}
    snapshots = [
        f"[{'snapshot' if source.format == 'torch' else 'IR'}]({source.files[0].url})" for source in template.snapshot
    ]
    links = ", ".join([*snapshots, f"[template](./{template.name}/template.yaml)"])
    values = [published.get(key, "-") for key in COLUMNS]
    return [template.name, *values, template.protocol(), links, str(template.gpu_num)]


if __name__ == "__main__":
    (TEMPLATES_DIR / "README.md").write_text(table(), encoding="utf-8")
