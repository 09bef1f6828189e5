"""A model template: everything that defines a detector, its training, its evaluation and its compression.

The only configuration there is. Complete YAML without inheritance; overrides are explicit flags of the commands.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from facekit.base.installation import templates_dir
from facekit.base.reading import read_text, shown
from facekit.base.schema import MAX_YAML_BYTES, Length, Range, Section, compose_yaml, read_node
from facekit.base.urls import check_url
from facekit.errors import FacekitError
from facekit.old_templates import bring_up_to_date, with_head

TEMPLATES_DIR = templates_dir()
MAX_INPUT_PIXELS = 1 << 25

Probability = Annotated[float, Range(0, 1)]
Rate = Annotated[float, Range(over=0, most=100)]  # of learning
Colour = Annotated[float, Range(-1000, 1000)]
Deviation = Annotated[float, Range(0.001, 100_000)]
Side = Annotated[int, Range(16, 8192)]  # pixels of an input
PriorSide = Annotated[float, Range(over=0, most=16384)]
Name = Annotated[str, Length(1, 300)]
Attempts = Annotated[int, Range(1, 100_000)]
Variance = Annotated[float, Range(0.001, 1000)]
Factor = Annotated[float, Range(0, 100)]
CropScale = Annotated[float, Range(over=0, most=10)]


@dataclass(frozen=True)
class DeltaCoding:
    """Centre and size relative to the prior, over variances (Liu et al., SSD, section 2.2)."""

    kind: Literal["delta"]
    centre_variance: Variance  # of boxes' centres and of points
    size_variance: Variance


@dataclass(frozen=True)
class DistanceCoding:
    """Distances from the prior's centre to the four borders (Tian et al., FCOS, section 3.1)."""

    kind: Literal["distance"]
    in_strides: bool  # in strides of the prior's level, else in pixels


@dataclass(frozen=True)
class SigmoidCoding:
    """YOLOv5's, whose points are in sizes of the prior (Qi et al., YOLO5Face, section 3)."""

    kind: Literal["sigmoid"]


@dataclass(frozen=True)
class HeadSettings:
    """What the network's numbers mean, so that exported files are read without building the network."""

    # pixels between the cells of a level, finest level first
    strides: Annotated[tuple[Annotated[int, Range(1, 1024)], ...], Length(1, 8)]
    cell_offset: Probability  # prior centres lie at (cell + cell_offset) * stride
    coder: DeltaCoding | DistanceCoding | SigmoidCoding
    scoring: Literal["softmax", "sigmoid"]  # softmax over face and background, or the sigmoid of one class
    # decoded: boxes, scores (and landmarks) in pixels leave the exported graph, which takes one size. per_level: one
    # tensor a level and quantity, at any size: the layout that cv2.FaceDetectorYN and SCRFD's users read.
    export_layout: Literal["decoded", "per_level"]
    face_column: Literal[0, 1] = 0  # of the classes
    has_objectness: bool = False  # or centre-ness; its sigmoid multiplies the class's
    has_landmarks: bool = False
    # Cells share the input's sides evenly instead of lying a stride apart, and priors are clipped to the input
    # (Ultra-Light).
    fits_cells: bool = False
    clips_boxes: bool = False  # decoded boxes end at the input's border
    floors_cells: bool = False  # no cell where less than a stride is left at the border

    def __post_init__(self) -> None:
        if list(self.strides) != sorted(set(self.strides)):
            raise ValueError(f"strides must ascend, got {list(self.strides)}.")
        if self.scoring == "sigmoid" and self.face_column:
            raise ValueError("face_column: expected 0 with scoring sigmoid, which has one column.")


# pixels at input.size_hw, a list a level
PriorSizes = Annotated[tuple[Annotated[tuple[tuple[PriorSide, PriorSide], ...], Length(1, 16)], ...], Length(1, 8)]


@dataclass(frozen=True)
class ModelSettings:
    """Which network, and the priors that it regresses from."""

    architecture: Name  # a key of facekit.models.MODELS
    prior_sizes_wh: PriorSizes
    options: Section  # what only this architecture has; read by its own file
    imagenet_weights: Name | None = None  # torchvision's name of the weights that the backbone starts training from
    head: HeadSettings | None = None  # None: of a template from before 0.5; load_template fills it in


@dataclass(frozen=True)
class InputSettings:
    """What the network is fed with: (pixel - mean) / std in the given channel order."""

    size_hw: tuple[Side, Side]
    colour_order: Literal["rgb", "bgr"]
    mean: tuple[Colour, Colour, Colour]  # of 0..255 pixels, in colour_order
    std: tuple[Deviation, Deviation, Deviation]

    def __post_init__(self) -> None:
        if self.size_hw[0] * self.size_hw[1] > MAX_INPUT_PIXELS:
            raise ValueError(f"size_hw: expected at most {MAX_INPUT_PIXELS} pixels, got {list(self.size_hw)}.")


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"]
    momentum: Annotated[float, Range(least=0, under=1)]
    weight_decay: Probability


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    kind: Literal["adamw"]
    weight_decay: Probability


@dataclass(frozen=True)
class StepDecay:
    """The learning rate falls by a factor at some epochs."""

    kind: Literal["step"]
    # epochs after which the learning rate is multiplied by factor
    milestones: Annotated[tuple[Annotated[int, Range(1, 100_000)], ...], Length(0, 100)]
    factor: Annotated[float, Range(over=0, most=1)]

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must ascend, got {list(self.milestones)}.")


@dataclass(frozen=True)
class CosineDecay:
    """The learning rate falls along half a cosine to the run's end (Loshchilov and Hutter, ICLR 2017, section 3)."""

    kind: Literal["cosine"]
    final_factor: Probability  # what is left of the learning rate at the end
    held: Annotated[float, Range(0, under=1)] = 0  # the part of the run, warm-up and all, before it falls


@dataclass(frozen=True)
class EarlyStopping:
    """Ends a run whose AP on the validation pictures gains no more."""

    patience: Annotated[int, Range(1, 100_000)]  # epochs without a gain
    least_gain: Annotated[float, Range(0, 100)]  # AP points (0..100) over the last gain's that count as one


@dataclass(frozen=True)
class TrainingSettings:
    """Linear warm-up, then the schedule."""

    optimizer: Sgd | AdamW
    batch_size: Annotated[int, Range(1, 4096)]  # pictures a process (GPU)
    base_learning_rate: Rate
    epochs: Annotated[int, Range(1, 100_000)]
    warmup_iterations: Annotated[int, Range(0, 10_000_000)]
    warmup_start: Probability  # fraction of the learning rate at the first iteration
    schedule: StepDecay | CosineDecay
    dataset_repeats: Annotated[int, Range(1, 1000)] = 1  # times that the training set is gone through in one epoch
    max_gradient_norm: Annotated[float, Range(over=0, most=1e9)] | None = None
    accumulate: Annotated[int, Range(1, 10_000)] = 1  # batches whose gradients are averaged for one step
    ema_decay: Annotated[float, Range(over=0, under=1)] | None = None  # of the average of weights, which is then saved
    start_share: Annotated[float, Range(0, under=1)] = 0  # of the weights that a run starts from, in that average
    # module names (prefixes) that stay as they start, statistics and all
    frozen: Annotated[tuple[Name, ...], Length(0, 1000)] = ()
    frozen_batch_norm: bool = False  # whether all batch norms keep their statistics
    early_stopping: EarlyStopping | None = None

    def __post_init__(self) -> None:
        if self.start_share and self.ema_decay is None:
            raise ValueError("start_share is of averaged weights: give ema_decay, or take 0.")


@dataclass(frozen=True)
class Photometric:
    """Colour distortion: each of the four applied with probability 0.5."""

    brightness_delta: Annotated[float, Range(0, 255)]  # added, of 0..255
    contrast: tuple[Factor, Factor]  # multiplied
    saturation: tuple[Factor, Factor]
    hue_delta: Annotated[float, Range(0, 180)]  # degrees

    def __post_init__(self) -> None:
        for name, (least, most) in (("contrast", self.contrast), ("saturation", self.saturation)):
            if least > most:
                raise ValueError(f"{name} must ascend, got {least:g} and {most:g}.")


@dataclass(frozen=True)
class MinIouCrop:
    """SSD's crop (Liu et al., ECCV 2016, section 2.2): its IoU with every face is at least a random minimum."""

    kind: Literal["min_iou"]
    min_ious: Annotated[tuple[Probability, ...], Length(1, 100)]
    min_scale: Annotated[float, Range(over=0, most=1)]  # smallest side of a crop, as a fraction of the picture's


@dataclass(frozen=True)
class SquareCrop:
    """A square whose side is a random multiple of the picture's short side, padded with zeros outside the picture."""

    kind: Literal["square"]
    scales: Annotated[tuple[CropScale, ...], Length(1, 1000)]
    attempts: Attempts  # crops without a face that are tried again
    empty_crop_probability: Probability = 0  # with which the first crop stays, with or without a face


@dataclass(frozen=True)
class JitteredSquareCrop:
    """The same, its multiple drawn between two ends, each octave as likely as the next."""

    kind: Literal["jittered_square"]
    least: CropScale
    most: CropScale
    attempts: Attempts
    empty_crop_probability: Probability = 0

    def __post_init__(self) -> None:
        if not self.least <= self.most:
            raise ValueError(f"least must not lie over most, got {self.least} and {self.most}.")


@dataclass(frozen=True)
class WholeFaceCrop:
    """A square within the picture, its side a random multiple of the short side, that wholly holds at least one face;
    else the whole picture, padded to a square with the input's mean."""

    kind: Literal["whole_face"]
    scales: Annotated[tuple[Annotated[float, Range(over=0, most=1)], ...], Length(1, 1000)]
    attempts: Attempts


@dataclass(frozen=True)
class FaceSizedCrop:
    """A window that shows one of the picture's faces at a drawn size, each octave of sizes as likely as the next: what
    is learnt doesn't depend on how large the pictures are (the idea of data-anchor sampling: Tang et al., PyramidBox,
    ECCV 2018, which draws among the sizes of its anchors)."""

    kind: Literal["face_sized"]
    least: Annotated[float, Range(over=0, most=10_000)]  # pixels of the input: the root of the face's area
    most: Annotated[float, Range(over=0, most=10_000)]
    # pixels of the input a pixel of the picture; where no face can have the size drawn, the size gives way
    least_zoom: Annotated[float, Range(0.01, 100)]
    most_zoom: Annotated[float, Range(0.01, 100)]
    empty_crop_probability: Probability  # with which it is laid anywhere in the picture, with or without a face

    def __post_init__(self) -> None:
        for low, high, name in ((self.least, self.most, ""), (self.least_zoom, self.most_zoom, "_zoom")):
            if low > high:
                raise ValueError(f"least{name} must not lie over most{name}, got {low:g} and {high:g}.")


@dataclass(frozen=True)
class AugmentationSettings:
    """What training does to a picture and its faces before the resize to input.size_hw."""

    # pixels of the original picture; smaller faces (either side) are not trained on
    min_face_size: Annotated[float, Range(0, 10_000)]
    photometric: Photometric | None
    crop: MinIouCrop | SquareCrop | JitteredSquareCrop | WholeFaceCrop | FaceSizedCrop
    flip_probability: Probability = 0.5


@dataclass(frozen=True)
class EvaluationSettings:
    """The protocol that the template's figures are measured with."""

    # stretch: to input.size_hw whatever the shape; fit: into input.size_hw, keeping the shape; letterbox: fit, then
    # zero padding right and bottom to the whole of input.size_hw; none: the picture's own size
    resize: Literal["stretch", "fit", "letterbox", "none"]
    score_threshold: Probability
    nms_iou_threshold: Probability
    size_multiple: Annotated[int, Range(1, 1024)] = 1  # zero padding right and bottom up to a multiple of this
    # added to each union, as a fraction of the input's area; what some makers' NMS does
    nms_union_slack: Probability = 0
    max_candidates: Annotated[int, Range(1, 10_000_000)] | None = None  # best boxes kept before NMS
    max_detections: Annotated[int, Range(1, 10_000_000)] | None = None  # best boxes kept after it

    @property
    def feeds_one_size(self) -> bool:
        """Whether the network sees input.size_hw and nothing else."""
        return self.resize in ("stretch", "letterbox")


@dataclass(frozen=True)
class QuantizationSettings:
    """INT8: post-training calibration, then quantisation-aware fine-tuning."""

    calibration_pictures: Annotated[int, Range(1, 100_000)] = 300
    # module names (prefixes) that stay in floating point
    float_layers: Annotated[tuple[Name, ...], Length(0, 1000)] = ()
    passes: Annotated[int, Range(0, 10_000)] = 1  # over the training set
    learning_rate: Rate = 1e-4


@dataclass(frozen=True)
class SparsitySettings:
    """Magnitude pruning of single weights, then fine-tuning under the mask."""

    ratio: Annotated[float, Range(over=0, under=1)] = 0.5  # of the convolution weights that become zero
    passes: Annotated[int, Range(0, 10_000)] = 2
    learning_rate: Rate = 1e-3


@dataclass(frozen=True)
class CompressionSettings:
    quantization: QuantizationSettings = field(default_factory=QuantizationSettings)
    sparsity: SparsitySettings = field(default_factory=SparsitySettings)


@dataclass(frozen=True)
class RemoteFile:
    """A published file; the sha256 is its identity, wherever it comes from."""

    url: Annotated[str, Length(1, 2000)]
    size: Annotated[int, Range(1, 1 << 33)]  # bytes; no server is listened to for longer
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 must be 64 lower-case hexadecimal digits, got '{shown(self.sha256)}'.")
        check_url(self.url)


@dataclass(frozen=True)
class SnapshotSource:
    """One way to get the published weights; sources are tried in their order."""

    format: Literal["torch", "openvino_ir"]
    files: tuple[RemoteFile, ...]  # one .pth, or .xml and .bin
    licence: Annotated[str, Length(1, 1000)]

    def __post_init__(self) -> None:
        if len(self.files) != (1 if self.format == "torch" else 2):
            raise ValueError("files: one for format torch, two (.xml, .bin) for openvino_ir.")


@dataclass(frozen=True)
class PublishedMetric:
    key: Name
    display_name: Name
    unit: Annotated[str, Length(0, 300)]
    value: float


@dataclass(frozen=True)
class Template:
    """One detector, whole."""

    name: Name
    summary: Annotated[str, Length(1, 1000)]
    model: ModelSettings
    input: InputSettings
    training: TrainingSettings
    augmentation: AugmentationSettings
    evaluation: EvaluationSettings
    snapshot: Annotated[tuple[SnapshotSource, ...], Length(0, 20)]
    metrics: Annotated[tuple[PublishedMetric, ...], Length(0, 200)]
    gpu_num: Annotated[int, Range(0, 1024)]
    compression: CompressionSettings = field(default_factory=CompressionSettings)

    def protocol(self) -> str:
        """The evaluation protocol in words, to stand beside every figure."""
        height, width = self.input.size_hw
        rule = self.evaluation
        size, pad = "own size", f", zero-padded to {rule.size_multiple}" if rule.size_multiple > 1 else ""
        if rule.resize == "stretch":
            size = f"resize {width}x{height}"
            pad = pad if width % rule.size_multiple or height % rule.size_multiple else ""
        elif rule.resize == "letterbox":
            size, pad = f"fit into {width}x{height}", ", zero-padded to it"
        elif rule.resize == "fit":
            size = f"fit into {width}x{height}"
        cap = f"{rule.max_detections} boxes" if rule.max_detections else "no cap"
        return f"{size}{pad}; score {rule.score_threshold:g}, NMS {rule.nms_iou_threshold:g}, {cap}"


def load_template(path: Path) -> Template:
    """Reads a template.yaml. Raises FacekitError that names file, line, key and the nearest valid key."""
    return parse_template(read_text(path, MAX_YAML_BYTES, "Give the path of a template.yaml."), path)


def parse_template(text: str, path: Path) -> Template:
    """The same of a text that stands in the file `path`; JSON is YAML too."""
    node = compose_yaml(text, path, tuple(part.name for part in dataclasses.fields(Template)))
    bring_up_to_date(node)
    template = read_node(node, path, Template)
    return template if template.model.head is not None else with_head(template, bundled_templates())


def bundled_templates() -> list[Template]:
    """All of facekit's own."""
    return [load_template(TEMPLATES_DIR / name / "template.yaml") for name in known_templates()]


def known_templates() -> list[str]:
    """Names of the bundled templates."""
    return sorted(path.parent.name for path in TEMPLATES_DIR.glob("*/template.yaml"))


def find_recipe(name_or_path: str, template_name: str, recipe: str) -> Path:
    """The recipe-RECIPE.yaml beside a template, or beside the bundled one of its name: a whole template that trains the
    same network in another way. Raises FacekitError that lists the recipes there are."""
    folders = (find_template(name_or_path).parent, TEMPLATES_DIR / template_name)
    found = [path for folder in reversed(folders) for path in folder.glob("recipe-*.yaml")]  # the nearest is last
    known = {path.stem.removeprefix("recipe-"): path for path in found}
    if recipe in known:
        return known[recipe]
    there = f"its recipes are {', '.join(sorted(known))}" if known else "it has none"
    raise FacekitError(f"`recipe={recipe}`: no such recipe of {template_name}; {there}. Leave it out for the template.")


def find_template(name_or_path: str) -> Path:
    """The template.yaml of a bundled template's name, of a folder that holds one, or the file itself."""
    known = known_templates()
    try:
        path = Path(name_or_path)
        candidates = [path, path / "template.yaml"]
        if name_or_path in known:
            candidates.append(TEMPLATES_DIR / name_or_path / "template.yaml")
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    except (OSError, ValueError):  # too long a name, or a NUL in it, is no template's
        pass
    name = name_or_path.removesuffix("/").rpartition("/")[2]
    near = difflib.get_close_matches(name.lower()[:100], known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise FacekitError(
        f"No template {shown(name_or_path)!r}. {hint}Give a template.yaml, a work dir, or a name: {', '.join(known)}."
    )
