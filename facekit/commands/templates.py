"""The templates command: what there is to choose from."""

from __future__ import annotations

from dataclasses import dataclass

from facekit.errors import FacekitError
from facekit.options import command_options, takes

MEASURED = "measured.yaml"  # beside the templates: what tools/verify_parity.py measured


@command_options
class TemplatesOptions:
    """A list has no options."""


@dataclass(frozen=True)
class MeasuredAp:
    """WIDER FACE APs of published weights, measured by facekit."""

    easy: float  # per cent, as the others
    medium: float
    hard: float
    protocol: str


@dataclass(frozen=True)
class TemplateRow:
    """One bundled template."""

    name: str
    summary: str
    parameters: float | None  # millions
    measured: MeasuredAp | None  # None: no published weights could be measured


@takes(TemplatesOptions)
def templates(options: TemplatesOptions) -> list[TemplateRow]:
    """Lists the bundled templates by name."""
    from facekit.template import TEMPLATES_DIR, load_template

    found = [load_template(path) for path in sorted(TEMPLATES_DIR.glob("*/template.yaml"))]
    measured = _read_measured()
    sizes = [next((metric.value for metric in template.metrics if metric.key == "size"), None) for template in found]
    return [
        TemplateRow(template.name, template.summary, size, measured.get(template.name))
        for template, size in zip(found, sizes, strict=True)
    ]


def _read_measured() -> dict[str, MeasuredAp]:
    """Of each template's .pth."""
    import yaml

    from facekit.template import TEMPLATES_DIR

    path = TEMPLATES_DIR / MEASURED
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        rows = {name: next((row for row in rows if row["kind"] == "pth"), None) for name, rows in content.items()}
        return {
            name: MeasuredAp(row["easy"], row["medium"], row["hard"], row["protocol"])
            for name, row in rows.items()
            if row
        }
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise FacekitError(f"{path}: can't be read ({error}). Install facekit again.") from error
