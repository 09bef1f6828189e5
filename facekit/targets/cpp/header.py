"""The text of a header: the template's constants, the network's numbers, facekit's code; and whether a text is one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekit import __version__
from facekit.base.reading import shown
from facekit.errors import FacekitError
from facekit.ops.coders import DeltaCoder
from facekit.ops.head import declared_head
from facekit.targets.reading.about import About
from facekit.targets.table import identifier
from facekit.template import Template

PARTS = Path(__file__).parent
FAMILIES = {"yunet": "yunet.hpp", "ultralight": "ultralight.hpp"}  # architecture: its part
MAX_PIXELS = 178_956_970  # of a picture; what facekit itself reads
NUMBERS_A_LINE = 8
HEAD_CHARACTERS = 20_000  # of a header, in which its constants stand

Named = tuple[str, NDArray[np.float32]]

_ABOUT = "// facekit: "
_BORDER = "  // columns of zeros on either side of a row"
# What check_is_ours() takes for the lines of yunet_options() and ultralight_options().
_OPTIONS = (
    r"inline constexpr int kStageChannels\[6\] = \{\d{1,4}(, \d{1,4}){5}\};",
    r"inline constexpr bool kReceptiveField = (true|false);",
    r"inline constexpr int kSharedUnits = \d{1,2};",
    rf"inline constexpr int kBorder = [15];{_BORDER}",
)
_FLOAT = r"(-?\d{1,10}(?:\.\d{1,60})?(?:e[+-]\d{1,2})?)f"
_THREE = r"\{" + ", ".join([_FLOAT] * 3) + r"\}"
_COLOURS = re.compile(rf"^inline constexpr float kMean\[3\] = {_THREE}, kStd\[3\] = {_THREE};", re.MULTILINE)
_NUMBERS_LINE = re.compile(r"(-?\d{1,10}(\.\d{1,60})?(e[+-]\d{1,2})?f,( |$)){1,8}")
_NAME_LINE = re.compile(r"// [A-Za-z0-9_.+ ]{1,300}: \d{1,9}")
_BEGIN, _END = "inline const float kWeights[] = {\n", "};\n"


def check_template(template: Template) -> None:
    """Raises FacekitError for what the header has no code for."""
    architecture, rule = template.model.architecture, template.evaluation
    if architecture not in FAMILIES:
        raise FacekitError(
            f"Template {shown(template.name)}: the C++ header is written for {' and '.join(FAMILIES)}, this is "
            f"{architecture}. Use another format: facekit export --list."
        )
    if not re.fullmatch(r"[A-Za-z0-9 ._+-]{1,100}", template.name):  # it stands in the code
        raise FacekitError(
            f"Template {shown(template.name)!r}: the C++ header wants a name of letters, digits, . _ + -."
        )
    head = declared_head(template.model)
    if not isinstance(head.coder, DeltaCoder):
        raise FacekitError(f"Template {template.name}: the C++ header decodes head.coder kind delta alone.")
    coarsest = head.strides[-1]
    fixed = template.input.size_hw if rule.resize == "letterbox" else (rule.size_multiple,) * 2
    if rule.resize == "stretch" and rule.size_multiple == 1:
        fixed = template.input.size_hw
    if architecture == "yunet" and any(side % coarsest for side in fixed):
        raise FacekitError(
            f"Template {template.name}: {architecture} takes multiples of {coarsest} pixels; "
            f"set evaluation.size_multiple to {coarsest}."
        )


def header_text(template: Template, options: Sequence[str], about: str, layers: Iterable[Named]) -> str:
    """`options`: of network_options(). `about`: one line for who reads the file. `layers`: names and numbers of the
    convolutions, in the order of the header's Packer."""
    lines: list[str] = []
    for name, values in layers:
        lines.append(f"// {name}: {len(values)}")
        texts = [_number(value) for value in values]
        lines += [" ".join(texts[at : at + NUMBERS_A_LINE]) for at in range(0, len(texts), NUMBERS_A_LINE)]
    before, behind = _around(template, options, about)
    return before + "\n".join(lines) + "\n" + behind


def about_in(text: str) -> str | None:
    """What a header says of itself."""
    found = re.search(f"^{re.escape(_ABOUT)}([ -~]*[ -[\\]-~])$", text[:HEAD_CHARACTERS], re.MULTILINE)  # no \\ ends it
    return found.group(1) if found else None


def own_template(text: str, said: About, template: Template) -> Template:
    """The template that a header was written of: `template` may since have been told to use other thresholds and sizes.
    What `said` doesn't hold stands in the constants."""
    written = said.fitted(template)

    def cap(constant: str) -> int | None:
        found = re.search(rf"^inline constexpr int {constant} = (\d{{1,8}});", text[:HEAD_CHARACTERS], re.MULTILINE)
        return int(found[1]) or None if found else None

    rule = dataclasses.replace(
        written.evaluation, max_candidates=cap("kMaxCandidates"), max_detections=cap("kMaxDetections")
    )
    given = written.input
    if found := _COLOURS.search(text[:HEAD_CHARACTERS]):  # in the order B, G, R, whichever the network's is
        first, second, third = (2, 1, 0) if given.colour_order == "rgb" else (0, 1, 2)
        numbers = [float(text) for text in found.groups()]
        mean, std = ((three[first], three[second], three[third]) for three in (numbers[:3], numbers[3:]))
        given = dataclasses.replace(given, mean=mean, std=std)
    return dataclasses.replace(written, evaluation=rule, input=given)


def check_is_ours(text: str, template: Template, source: str) -> None:
    """Raises FacekitError for a header that this facekit doesn't write for the template: all but its numbers must be
    what facekit writes, to the letter, for nobody else's code is compiled."""
    head = text[:HEAD_CHARACTERS]
    options = [match.group(0) for line in _OPTIONS if (match := re.search(f"^{line}$", head, re.MULTILINE))]
    before, behind = _around(template, options, about_in(text) or "")
    if not (text.startswith(before) and text.endswith(behind) and len(text) > len(before) + len(behind)):
        raise FacekitError(
            f"{source}: is not what facekit {__version__} writes for template {template.name!r}. A header is compiled "
            f"only if nothing but its numbers differs. Export it again."
        )
    for number, line in enumerate(text[len(before) : len(text) - len(behind)].split("\n")[:-1], start=1):
        if not (_NUMBERS_LINE.fullmatch(line) or _NAME_LINE.fullmatch(line)):
            where = before.count("\n") + number
            raise FacekitError(f"{source}:{where}: expected numbers, got {shown(line)!r}. Export it again.")


def _number(value: np.float32) -> str:
    text = str(value)  # the shortest that reads back as the same number
    return f"{text}f," if "." in text or "e" in text else f"{text}.0f,"


def _around(template: Template, options: Sequence[str], about: str) -> tuple[str, str]:
    """The text before the numbers and behind them."""
    parts = ["simd.hpp", "layers.hpp", "stream.hpp", FAMILIES[template.model.architecture], "picture.hpp",
             "detector.hpp"]  # fmt: skip
    name = identifier(template.name)
    opening = part("opening.hpp")
    for key, value in {"NAME": name, "GUARD": f"FACEKIT_{name.upper()}_HPP", "VERSION": __version__,
                       "TEMPLATE": template.name, "PROTOCOL": template.protocol(), "ABOUT": about}.items():  # fmt: skip
        opening = opening.replace(f"@{key}@", value)
    closing = part("closing.hpp").replace("@NAME@", name)
    before = opening + _constants(template, options) + "\n// The convolutions, batch norm folded in.\n" + _BEGIN
    return before, _END + "\n" + "\n".join(map(part, parts)) + "\n" + closing


def part(name: str) -> str:
    """A text beside this file."""
    return (PARTS / name).read_text(encoding="utf-8")


def _constants(template: Template, options: Sequence[str]) -> str:
    head, rule, given = declared_head(template.model), template.evaluation, template.input
    assert isinstance(head.coder, DeltaCoder)
    height, width = (0, 0) if rule.resize == "none" else given.size_hw
    most = max(head.priors_a_cell)
    sizes = [[*level, *[(0.0, 0.0)] * (most - len(level))] for level in head.prior_sizes_wh]
    channels = (2, 1, 0) if given.colour_order == "rgb" else (0, 1, 2)
    mean, std = (_list(values[channel] for channel in channels) for values in (given.mean, given.std))
    rows = [
        f'inline constexpr char kTemplate[] = "{template.name}";',
        f'inline constexpr char kVersion[] = "{__version__}";',
        "enum class Resize { kNone, kStretch, kFit, kLetterbox };",
        f"inline constexpr Resize kResize = Resize::k{rule.resize.capitalize()};",
        f"inline constexpr int kInputHeight = {height}, kInputWidth = {width};",
        f"inline constexpr int kSizeMultiple = {rule.size_multiple};",
        f"inline constexpr std::int64_t kMaxPixels = {MAX_PIXELS};",
        f"inline constexpr float kMean[3] = {mean}, kStd[3] = {std};  // B, G, R",
        f"inline constexpr float kScoreThreshold = {_float(rule.score_threshold)};",
        f"inline constexpr float kNmsThreshold = {_float(rule.nms_iou_threshold)};",
        f"inline constexpr double kUnionSlack = {rule.nms_union_slack!r};  // of the fed picture's area",
        f"inline constexpr int kMaxCandidates = {rule.max_candidates or 0};  // 0: all",
        f"inline constexpr int kMaxDetections = {rule.max_detections or 0};",
        f"inline constexpr int kLevels = {len(head.strides)};",
        f"inline constexpr int kStrides[] = {{{', '.join(map(str, head.strides))}}};",
        f"inline constexpr int kPriorCounts[] = {{{', '.join(map(str, head.priors_a_cell))}}};",
        f"inline constexpr float kPriorSizes[][{most}][2] = "
        f"{{{', '.join('{' + ', '.join(map(_list, level)) + '}' for level in sizes)}}};",
        f"inline constexpr float kCellOffset = {_float(head.cell_offset)};",
        f"inline constexpr float kCentreVariance = {_float(head.coder.centre_variance)};",
        f"inline constexpr float kSizeVariance = {_float(head.coder.size_variance)};",
        f"inline constexpr bool kFitsCells = {_bool(head.fits_cells)}, kClipsBoxes = {_bool(head.clips_boxes)};",
        f"inline constexpr bool kHasLandmarks = {_bool(head.has_landmarks)};",
        f"inline constexpr int kFaceColumn = {head.face_column};",
        *options,
    ]
    return "\n".join(rows) + "\n"


def yunet_options(stage_channels: Sequence[int], shared_units: int) -> list[str]:
    """What the header must know of a YuNet that the template's head doesn't say."""
    return [
        f"inline constexpr int kStageChannels[6] = {{{', '.join(map(str, stage_channels))}}};",
        f"inline constexpr int kSharedUnits = {shared_units};",
        f"inline constexpr int kBorder = 1;{_BORDER}",
    ]


def ultralight_options(receptive_field_block: bool) -> list[str]:
    """The same of an Ultra-Light detector."""
    return [
        f"inline constexpr bool kReceptiveField = {_bool(receptive_field_block)};",
        f"inline constexpr int kBorder = {5 if receptive_field_block else 1};{_BORDER}",
    ]


def _float(value: float) -> str:
    return _number(np.float32(value)).rstrip(",")


def _list(values: Iterable[float]) -> str:
    return "{" + ", ".join(map(_float, values)) + "}"


def _bool(value: bool) -> str:
    return "true" if value else "false"
