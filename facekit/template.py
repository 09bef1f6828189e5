"""A model template: everything that defines a detector, its training, its evaluation and its compression.

The only configuration there is. Complete YAML without inheritance; overrides are explicit flags of the commands.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facekit.errors import FacekitError
from facekit.installation import templates_dir
from facekit.schema import Section, plain_data, read_yaml

TEMPLATES_DIR = templates_dir()


@dataclass(frozen=True)
class DeltaCoding:
    """Centre and size relative to the prior, over variances (Liu et al., SSD, section 2.2)."""

    kind: Literal["delta"]
    centre_variance: float  # of boxes' centres and of points
    size_variance: float


@dataclass(frozen=True)
class DistanceCoding:
    """Distances from the prior's centre to the four borders (Tian et al., FCOS, section 3.1)."""

    kind: Literal["distance"]
    in_strides: bool  # in strides of the prior's level, else in pixels


@dataclass(frozen=True)
class HeadSettings:
    """What the network's numbers mean, so that exported files are read without building the network."""

    strides: tuple[int, ...]  # pixels between the cells of a level, finest level first
    cell_offset: float  # prior centres lie at (cell + cell_offset) * stride
    coder: DeltaCoding | DistanceCoding
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


@dataclass(frozen=True)
class ModelSettings:
    """Which network, and the priors that it regresses from."""

    architecture: str  # a key of facekit.models.MODELS
    imagenet_weights: str | None  # torchvision's name of the weights that the backbone starts training from
    prior_sizes_wh: tuple[tuple[tuple[float, float], ...], ...]  # pixels at input.size_hw, a list a level
    options: Section  # what only this architecture has; read by its own file
    head: HeadSettings | None = None  # None: of a template from before 0.5; load_template fills it in


@dataclass(frozen=True)
class InputSettings:
    """What the network is fed with: (pixel - mean) / std in the given channel order."""

    size_hw: tuple[int, int]
    colour_order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]  # of 0..255 pixels, in colour_order
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if min(self.size_hw) < 1 or min(self.std) <= 0:
            raise ValueError("size_hw and std must be positive.")


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"]
    momentum: float
    weight_decay: float


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    kind: Literal["adamw"]
    weight_decay: float


@dataclass(frozen=True)
class StepDecay:
    """The learning rate falls by a factor at some epochs."""

    kind: Literal["step"]
    milestones: tuple[int, ...]  # epochs after which the learning rate is multiplied by factor
    factor: float

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must ascend, got {list(self.milestones)}.")


@dataclass(frozen=True)
class CosineDecay:
    """The learning rate falls along half a cosine to the run's end (Loshchilov and Hutter, ICLR 2017, section 3)."""

    kind: Literal["cosine"]
    final_factor: float  # what is left of the learning rate at the end

    def __post_init__(self) -> None:
        if not 0 <= self.final_factor <= 1:
            raise ValueError(f"final_factor must lie between 0 and 1, got {self.final_factor}.")


@dataclass(frozen=True)
class EarlyStopping:
    """Ends a run whose AP on the validation pictures gains no more."""

    patience: int  # epochs without a gain
    least_gain: float  # AP points (0..100) over the last gain's that count as one

    def __post_init__(self) -> None:
        if self.patience < 1 or self.least_gain < 0:
            raise ValueError("patience must be 1 or more, least_gain 0 or more.")


@dataclass(frozen=True)
class TrainingSettings:
    """Linear warm-up, then the schedule."""

    optimizer: Sgd | AdamW
    batch_size: int  # pictures a process (GPU)
    base_learning_rate: float
    epochs: int
    dataset_repeats: int  # times that the training set is gone through in one epoch
    warmup_iterations: int
    warmup_start: float  # fraction of the learning rate at the first iteration
    schedule: StepDecay | CosineDecay
    max_gradient_norm: float | None
    accumulate: int  # batches whose gradients are averaged for one step
    ema_decay: float | None  # of the moving average of the weights, which is what the run is for then
    frozen: tuple[str, ...]  # module names (prefixes) that stay as they start, statistics and all
    frozen_batch_norm: bool  # whether all batch norms keep their statistics
    early_stopping: EarlyStopping | None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.epochs < 1 or self.dataset_repeats < 1:
            raise ValueError("batch_size, epochs and dataset_repeats must be 1 or more.")
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be 1 or more, got {self.accumulate}.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie between 0 and 1, got {self.ema_decay}.")


@dataclass(frozen=True)
class Photometric:
    """Colour distortion: each of the four applied with probability 0.5."""

    brightness_delta: float  # added, of 0..255
    contrast: tuple[float, float]  # multiplied
    saturation: tuple[float, float]
    hue_delta: float  # degrees


@dataclass(frozen=True)
class MinIouCrop:
    """SSD's crop (Liu et al., ECCV 2016, section 2.2): its IoU with every face is at least a random minimum."""

    kind: Literal["min_iou"]
    min_ious: tuple[float, ...]
    min_scale: float  # smallest side of a crop as a fraction of the picture's


@dataclass(frozen=True)
class SquareCrop:
    """A square whose side is a random multiple of the picture's short side, padded with zeros outside the picture."""

    kind: Literal["square"]
    scales: tuple[float, ...]
    attempts: int  # crops without a face that are tried again
    empty_crop_probability: float  # with which the first crop stays, with or without a face

    def __post_init__(self) -> None:
        _check_probability("empty_crop_probability", self.empty_crop_probability)


@dataclass(frozen=True)
class JitteredSquareCrop:
    """The same, its multiple drawn between two ends, each octave as likely as the next."""

    kind: Literal["jittered_square"]
    least: float
    most: float
    attempts: int
    empty_crop_probability: float

    def __post_init__(self) -> None:
        if not 0 < self.least <= self.most:
            raise ValueError(f"least must lie over 0 and not over most, got {self.least} and {self.most}.")
        _check_probability("empty_crop_probability", self.empty_crop_probability)


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}.")


@dataclass(frozen=True)
class WholeFaceCrop:
    """A square within the picture, its side a random multiple of the short side, that wholly holds at least one face;
    else the whole picture, padded to a square with the input's mean."""

    kind: Literal["whole_face"]
    scales: tuple[float, ...]  # at most 1
    attempts: int

    def __post_init__(self) -> None:
        if not self.scales or not 0 < min(self.scales) <= max(self.scales) <= 1:
            raise ValueError(f"scales must lie over 0 and not over 1, got {list(self.scales)}.")


@dataclass(frozen=True)
class AugmentationSettings:
    """What training does to a picture and its faces before the resize to input.size_hw."""

    min_face_size: float  # pixels of the original picture; smaller faces (either side) are not trained on
    photometric: Photometric | None
    crop: MinIouCrop | SquareCrop | JitteredSquareCrop | WholeFaceCrop
    flip_probability: float


@dataclass(frozen=True)
class EvaluationSettings:
    """The protocol that the template's figures are measured with."""

    # stretch: to input.size_hw whatever the shape; fit: into input.size_hw, keeping the shape; letterbox: fit, then
    # zero padding right and bottom to the whole of input.size_hw; none: the picture's own size
    resize: Literal["stretch", "fit", "letterbox", "none"]
    size_multiple: int  # zero padding right and bottom up to a multiple of this
    score_threshold: float
    nms_iou_threshold: float
    nms_union_slack: float  # added to each union, as a fraction of the input's area; what some makers' NMS does
    max_candidates: int | None  # best boxes kept before NMS
    max_detections: int | None  # best boxes kept after it

    def __post_init__(self) -> None:
        if self.size_multiple < 1:
            raise ValueError(f"size_multiple must be 1 or more, got {self.size_multiple}.")

    @property
    def feeds_one_size(self) -> bool:
        """Whether the network sees input.size_hw and nothing else."""
        return self.resize in ("stretch", "letterbox")


@dataclass(frozen=True)
class QuantizationSettings:
    """INT8: post-training calibration, then quantisation-aware fine-tuning."""

    calibration_pictures: int
    float_layers: tuple[str, ...]  # module names (prefixes) that stay in floating point
    passes: int  # over the training set
    learning_rate: float


@dataclass(frozen=True)
class SparsitySettings:
    """Magnitude pruning of single weights, then fine-tuning under the mask."""

    ratio: float  # of the convolution weights that become zero
    passes: int
    learning_rate: float

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio must lie between 0 and 1, got {self.ratio}.")


@dataclass(frozen=True)
class CompressionSettings:
    quantization: QuantizationSettings
    sparsity: SparsitySettings


@dataclass(frozen=True)
class RemoteFile:
    """A published file; the sha256 is its identity, wherever it comes from."""

    url: str
    size: int  # bytes
    sha256: str

    def __post_init__(self) -> None:
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(f"sha256 must be 64 lower-case hexadecimal digits, got {self.sha256!r}.")
        if not self.url.startswith("https://"):
            raise ValueError(f"url must start with https://, got {self.url!r}.")


@dataclass(frozen=True)
class SnapshotSource:
    """One way to get the published weights; sources are tried in their order."""

    format: Literal["torch", "openvino_ir"]
    files: tuple[RemoteFile, ...]  # one .pth, or .xml and .bin
    licence: str

    def __post_init__(self) -> None:
        if len(self.files) != (1 if self.format == "torch" else 2):
            raise ValueError("files: one for format torch, two (.xml, .bin) for openvino_ir.")


@dataclass(frozen=True)
class PublishedMetric:
    key: str
    display_name: str
    unit: str
    value: float


@dataclass(frozen=True)
class Template:
    """One detector, whole."""

    name: str
    summary: str
    model: ModelSettings
    input: InputSettings
    training: TrainingSettings
    augmentation: AugmentationSettings
    evaluation: EvaluationSettings
    compression: CompressionSettings
    snapshot: tuple[SnapshotSource, ...]
    metrics: tuple[PublishedMetric, ...]
    gpu_num: int

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


def at_scale(template: Template, scale: str) -> Template:
    """The template with another evaluation size. Priors keep their pixels.

    `template` (its own), `origin` (the pictures' own size), `max:N` (the longest side scaled to N), `640` (max:640),
    `vga` (fit into 640 x 640 and zero-padded to it: what SCRFD and YOLO5Face call VGA), `WxH` (stretched to W x H).
    Raises FacekitError for anything else.
    """
    rule, settings = template.evaluation, template.input
    if scale == "template":
        return template
    if scale == "origin":
        rule = dataclasses.replace(rule, resize="none")
    elif scale == "vga":
        rule = dataclasses.replace(rule, resize="letterbox")
        settings = dataclasses.replace(settings, size_hw=(640, 640))
    elif match := re.fullmatch(r"max:([1-9]\d{0,3})", "max:640" if scale == "640" else scale):
        rule = dataclasses.replace(rule, resize="fit")
        settings = dataclasses.replace(settings, size_hw=(int(match[1]), int(match[1])))
    elif match := re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", scale):
        rule = dataclasses.replace(rule, resize="stretch")
        settings = dataclasses.replace(settings, size_hw=(int(match[2]), int(match[1])))
    else:
        raise FacekitError(
            f"`scale={scale}`: expected template, origin, 640, vga, max:N or WxH, such as max:1024 or 640x480, "
            f"up to 9999 pixels."
        )
    return dataclasses.replace(template, evaluation=rule, input=settings)


def with_thresholds(
    template: Template, score_threshold: float | None, nms_iou_threshold: float | None, max_detections: int | None
) -> Template:
    """The template with those of its evaluation's thresholds replaced that are given."""
    rule = template.evaluation
    if score_threshold is not None:
        rule = dataclasses.replace(rule, score_threshold=score_threshold)
    if nms_iou_threshold is not None:
        rule = dataclasses.replace(rule, nms_iou_threshold=nms_iou_threshold)
    if max_detections is not None:
        rule = dataclasses.replace(rule, max_detections=max_detections)
    return dataclasses.replace(template, evaluation=rule)


def load_template(path: Path) -> Template:
    """Reads a template.yaml. Raises FacekitError that names file, line, key and the nearest valid key."""
    return with_head(read_yaml(path, Template))


def with_head(template: Template) -> Template:
    """A template from before 0.5 says nothing of its head: it is that of the bundled template of the same name, or
    else of the same architecture with as many levels. Other templates come back as they are."""
    model = template.model
    if model.head is not None:
        return template
    levels = len(model.prior_sizes_wh)
    bundled = [read_yaml(path, Template) for path in sorted(TEMPLATES_DIR.glob("*/template.yaml"))]
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
    column = plain_data(model.options).get("face_column", alike[0].face_column)  # where it stood before 0.5
    head = dataclasses.replace(alike[0], face_column=column)
    return dataclasses.replace(template, model=dataclasses.replace(model, head=head))


def find_template(name_or_path: str) -> Path:
    """The template.yaml of a bundled template's name, of a folder that holds one, or the file itself."""
    path = Path(name_or_path)
    candidates = (path, path / "template.yaml", TEMPLATES_DIR / name_or_path / "template.yaml")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(p.parent.name for p in TEMPLATES_DIR.glob("*/template.yaml")))
    raise FacekitError(f"No template {name_or_path!r}. Give a template.yaml, a work dir, or a name: {known}.")
