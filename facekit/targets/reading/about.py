"""What a model file says of itself, so that it is run without being told what it is: inside it where the format can
hold that, else in FILE.facekit.yaml beside it."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from facekit import __version__
from facekit.base.files import note_inputs, write_text
from facekit.base.reading import file_sha256, shown
from facekit.base.schema import Length, Range, from_plain, plain_data, read_yaml
from facekit.errors import FacekitError
from facekit.ops.head import declared_head
from facekit.template import (
    TEMPLATES_DIR,
    EvaluationSettings,
    HeadSettings,
    Name,
    PriorSizes,
    Probability,
    Side,
    Template,
    known_templates,
    load_template,
)

log = logging.getLogger(__name__)

KEY = "facekit"  # of the text in formats that hold named texts
MAX_TEXT = 10_000  # characters
SUFFIX = ".facekit.yaml"


@dataclass(frozen=True)
class About:
    """Of one exported file."""

    template: Name
    version: Annotated[str, Length(1, 50)]  # facekit's that wrote it
    size_hw: tuple[Side, Side] | None  # the only size of picture that it takes; None: any
    size_multiple: Annotated[int, Range(1, 1024)]  # that its sides must be multiples of
    colour_order: Literal["bgr"]  # of the pixels 0..255 that it is fed; the network's own order is inside
    layout: Literal["nchw", "nhwc"]  # of the input
    resize: Literal["stretch", "fit", "letterbox", "none"]
    strides: Annotated[tuple[Annotated[int, Range(1, 1024)], ...], Length(1, 8)]
    score_threshold: Probability
    nms_iou_threshold: Probability
    licence: Annotated[str, Length(1, 1000)]  # of the weights, or of those that were published for the template
    # The rest of its template, as a work dir's may differ from facekit's own; files from before 0.5 have none.
    fed_hw: tuple[Side, Side] | None = None  # input.size_hw, which pictures are fitted into
    evaluation: EvaluationSettings | None = None
    head: HeadSettings | None = None
    prior_sizes_wh: PriorSizes | None = None
    bin_sha256: Annotated[str, Length(64, 64)] | None = None  # of the .bin beside it, in FILE.facekit.yaml alone

    def to_json(self) -> str:
        """On one line, without what only FILE.facekit.yaml has."""
        return json.dumps({key: value for key, value in plain_data(self).items() if key != "bin_sha256"})

    def fitted(self, template: Template) -> Template:
        """The template with what this file was exported with, where a work dir's differed from the one of its name.

        Raises FacekitError where the two can't be of one detector.
        """
        template = self._with_what_is_said(template)
        assert template.model.head is not None, "load_template fills it in"
        if template.model.head.strides != self.strides:
            raise FacekitError(
                f"was exported of a {self.template} with strides {list(self.strides)}; facekit's own has "
                f"{list(template.model.head.strides)}. Give the template.yaml of its work dir as `template`."
            )
        rule = dataclasses.replace(
            template.evaluation, resize=self.resize, score_threshold=self.score_threshold,
            nms_iou_threshold=self.nms_iou_threshold,
        )  # fmt: skip
        settings = template.input
        if self.size_hw is not None and rule.feeds_one_size:
            settings = dataclasses.replace(settings, size_hw=self.size_hw)
        return dataclasses.replace(template, evaluation=rule, input=settings)

    def _with_what_is_said(self, template: Template) -> Template:
        """Raises FacekitError for what no template can say."""
        model = dataclasses.replace(
            template.model, head=self.head or template.model.head,
            prior_sizes_wh=self.prior_sizes_wh or template.model.prior_sizes_wh,
        )  # fmt: skip
        settings = dataclasses.replace(template.input, size_hw=self.fed_hw or template.input.size_hw)
        rule = self.evaluation or template.evaluation
        made = dataclasses.replace(template, model=model, input=settings, evaluation=rule)
        declared_head(made.model)  # checks that its parts fit
        return made


def own_licence(weights: Path) -> str | None:
    """Of the weights that come with facekit, wherever they lie; None for any others."""
    own = TEMPLATES_DIR / "yunet-n" / "facekit.pth"
    if not own.is_file() or weights.stat().st_size != own.stat().st_size or weights.read_bytes() != own.read_bytes():
        return None
    return (
        "facekit's own weights: Apache-2.0, as far as ours to give; see MODEL_CARD.md in facekit's "
        "model_templates/face-detection/yunet-n"
    )


def about_export(
    template: Template, size_hw: tuple[int, int] | None, layout: Literal["nchw", "nhwc"] = "nchw"
) -> About:
    """Of a detector that is exported. size_hw: the only size of picture that the file takes, None for any."""
    assert template.model.head is not None, "load_template fills it in"
    rule = template.evaluation
    coarsest = max(template.model.head.strides)
    licences = dict.fromkeys(source.licence for source in template.snapshot if source.licence)
    return About(
        template=template.name,
        version=__version__,
        size_hw=size_hw,
        size_multiple=coarsest if size_hw is None and rule.size_multiple % coarsest == 0 else 1,
        colour_order="bgr",
        layout=layout,
        resize=rule.resize,
        strides=template.model.head.strides,
        score_threshold=rule.score_threshold,
        nms_iou_threshold=rule.nms_iou_threshold,
        # Of the weights at hand nothing is known: they may be the published ones, made of these, or anybody's.
        licence=f"published weights of {template.name}: {'; '.join(licences)}"[:1000] if licences else "not stated",
        fed_hw=template.input.size_hw,
        evaluation=rule,
        head=template.model.head,
        prior_sizes_wh=template.model.prior_sizes_wh,
    )


def parse_about(text: Any, source: Path, template: object = None) -> About | None:
    """What a file holds under KEY; None for nothing. Raises FacekitError for anything but what to_json() wrote, where
    there is no template that could do without it."""
    if text is None:
        return None
    try:
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            raise ValueError(f"expected a text of at most {MAX_TEXT} characters")
        made = from_plain(About, json.loads(text), KEY)
    except (ValueError, RecursionError) as error:
        if template is not None:
            return None
        raise FacekitError(
            f"{source}: what it says of itself can't be read: {' '.join(str(error).split())[:200]}. Export it again, "
            f"or give its template."
        ) from error
    assert isinstance(made, About)
    return made


def beside(weights: Path) -> Path:
    """The file that says what the weights are, where they can't themselves."""
    return weights.with_name(weights.name + SUFFIX)


def write_beside(of: About, weights: Path) -> None:
    """Writes beside(weights)."""
    import yaml

    if (binary := weights.with_suffix(".bin")).is_file():
        of = dataclasses.replace(of, bin_sha256=file_sha256(binary))
    head = "# What facekit must know to run the file of this name. Keep it beside it.\n"
    write_text(beside(weights), head + yaml.safe_dump(plain_data(of), sort_keys=False))


def read_beside(weights: Path) -> About | None:
    """None where nothing lies beside the weights. Raises FacekitError for a file that is none of write_beside()'s."""
    path = beside(weights)
    if not path.exists():
        return None
    note_inputs([path])
    return read_yaml(path, About)


def template_for(given: Template | None, said: About | None, weights: Path, named: str | None = None) -> Template:
    """The template given, or else the one that the file names, as stated_template().

    Raises FacekitError where neither is there, and as check_fits().
    """
    check_fits(given, said, weights)
    found = given or stated_template(said, weights, named)
    if found is None:
        if weights.suffix.lower() == ".param":  # the only kind that has no room for it
            raise FacekitError(
                f"{weights}: {beside(weights).name}, which says of what template it is, belongs beside it and is "
                f"missing. Bring it back, or give `template`, where the command has it."
            )
        raise FacekitError(f"{weights}: says nothing of its template. Give `template`, such as yunet-n.")
    return found


def check_fits(given: object, said: About | None, weights: Path) -> None:
    """Where a template is given, and the file says that it is of one with another network: all but its outputs, such as
    size and complexity, would be the given one's. A work dir may have a name of its own, so that is only warned of.

    Raises FacekitError where both are facekit's.
    """
    if not isinstance(given, Template) or said is None or said.template == given.name:
        return
    known = known_templates()
    if said.template not in known or given.name not in known:
        log.warning("%s: says that it is of %s, not of the given %s.", weights, shown(said.template), given.name)
        return
    if _network(load_template(TEMPLATES_DIR / said.template / "template.yaml")) != _network(given):
        raise FacekitError(
            f"{weights}: is of the template {said.template}, and {given.name} was given. Give "
            f"`template={said.template}` or none."
        )


def _network(template: Template) -> tuple[str, str]:
    import yaml

    return template.model.architecture, yaml.serialize(template.model.options.node)


def stated_template(said: About | None, weights: Path, named: str | None = None) -> Template | None:
    """The template that a file names by what it says of itself, or `named` by other means; None where it doesn't.

    Raises FacekitError for one that is none of facekit's, or that the file can't be of.
    """
    name = named if said is None else said.template
    if name is None:
        return None
    if name not in known_templates():  # a path, from a stranger, isn't opened
        raise FacekitError(
            f"{weights}: is of the template {shown(name)!r}, which is none of facekit's. Give its template.yaml, or "
            f"work dir, as `template`."
        )
    template = load_template(TEMPLATES_DIR / name / "template.yaml")
    try:
        return template if said is None else said.fitted(template)
    except FacekitError as error:
        raise FacekitError(f"{weights}: {error}") from error
