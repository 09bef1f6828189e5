"""Templates of older work dirs: what has moved since then."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import yaml

from facekit.base.schema import plain_data
from facekit.errors import FacekitError

if TYPE_CHECKING:
    from facekit.template import Template


def bring_up_to_date(template: yaml.Node) -> None:
    """Turns what facekit 0.3 wrote into what is written now: training.milestones, and milestone_factor."""
    training = _child(template, "training")
    if training is None or _child(training, "schedule") is not None:
        return
    moved = {"milestones": "milestones", "milestone_factor": "factor"}
    pairs = [pair for pair in training.value if pair[0].value in moved]
    if len(pairs) != len(moved):
        return
    start, end = pairs[0][0].start_mark, pairs[-1][1].end_mark

    def text(value: str) -> yaml.ScalarNode:
        return yaml.ScalarNode("tag:yaml.org,2002:str", value, start, end)

    entries = [(text("kind"), text("step")), *((text(moved[key.value]), value) for key, value in pairs)]
    schedule = yaml.MappingNode("tag:yaml.org,2002:map", entries, start, end)
    training.value = [pair for pair in training.value if pair not in pairs] + [(text("schedule"), schedule)]


def _child(node: yaml.Node, key: str) -> yaml.MappingNode | None:
    children = [value for name, value in node.value if name.value == key] if isinstance(node, yaml.MappingNode) else []
    return children[0] if children and isinstance(children[0], yaml.MappingNode) else None


def with_head(template: Template, bundled: list[Template]) -> Template:
    """A template from before 0.5 says nothing of its head: it is that of the bundled template of the same name, or
    else of the same architecture with as many levels. Raises FacekitError where there is none."""
    model = template.model
    levels = len(model.prior_sizes_wh)
    alike = [
        other.model.head
        for other in sorted(bundled, key=lambda other: other.name != template.name)
        if other.model.architecture == model.architecture and len(other.model.prior_sizes_wh) == levels
    ]
    if not alike or alike[0] is None:
        raise FacekitError(
            f"{model.options.file}: model.head is missing, and no bundled template has the architecture "
            f"{model.architecture!r} with {levels} levels to take it from. Add it; docs/adding-a-model.md says how."
        )
    head, options = alike[0], plain_data(model.options)
    if isinstance(options, dict) and options.get("face_column") in (0, 1):  # where it stood before 0.5
        head = dataclasses.replace(head, face_column=options["face_column"])
    return dataclasses.replace(template, model=dataclasses.replace(model, head=head))
