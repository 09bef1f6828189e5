"""A model template: everything that defines a detector, its training, its evaluation and its compression.

The only configuration there is. Complete YAML without inheritance; overrides are explicit flags of the commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facekit.errors import FacekitError
from facekit.schema import Section, read_yaml

TEMPLATES_DIR = Path(__file__).resolve().parent.parent / "model_templates" / "face-detection"


@dataclass(frozen=True)
class ModelSettings:
    """Which network, and the priors that it regresses from."""

    architecture: str  # a key of facekit.models.MODELS
    prior_sizes_wh: tuple[tuple[tuple[float, float], ...], ...]  # pixels at input.size_hw, a list a level
    options: Section  # what only this architecture has; read by its own file


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
class TrainingSettings:
    """Stochastic gradient descent with linear warm-up and steps."""

    batch_size: int  # pictures a process (GPU)
    base_learning_rate: float
    epochs: int
    dataset_repeats: int  # times that the training set is gone through in one epoch
    momentum: float
    weight_decay: float
    warmup_iterations: int
    warmup_start: float  # fraction of the learning rate at the first iteration
    milestones: tuple[int, ...]  # epochs after which the learning rate is multiplied by milestone_factor
    milestone_factor: float
    max_gradient_norm: float | None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.epochs < 1 or self.dataset_repeats < 1:
            raise ValueError("batch_size, epochs and dataset_repeats must be 1 or more.")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must ascend, got {list(self.milestones)}.")


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


@dataclass(frozen=True)
class AugmentationSettings:
    """What training does to a picture and its faces before the resize to input.size_hw."""

    min_face_size: float  # pixels of the original picture; smaller faces (either side) are not trained on
    photometric: Photometric | None
    crop: MinIouCrop | SquareCrop
    flip_probability: float


@dataclass(frozen=True)
class EvaluationSettings:
    """The protocol that the template's figures are measured with."""

    resize: Literal["stretch", "none"]  # to input.size_hw whatever the shape, or the picture at its own size
    size_multiple: int  # zero padding right and bottom up to a multiple of this
    score_threshold: float
    nms_iou_threshold: float
    max_candidates: int | None  # best boxes kept before NMS
    max_detections: int | None  # best boxes kept after it


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
        size = f"resize {width}x{height}" if rule.resize == "stretch" else "own size"
        pad = f", zero-padded to {rule.size_multiple}" if rule.size_multiple > 1 else ""
        cap = f"{rule.max_detections} boxes" if rule.max_detections else "no cap"
        return f"{size}{pad}; score {rule.score_threshold:g}, NMS {rule.nms_iou_threshold:g}, {cap}"


def load_template(path: Path) -> Template:
    """Reads a template.yaml. Raises FacekitError that names file, line, key and the nearest valid key."""
    return read_yaml(path, Template)


def find_template(name_or_path: str) -> Path:
    """The template.yaml of a bundled template's name, of a folder that holds one, or the file itself."""
    path = Path(name_or_path)
    candidates = (path, path / "template.yaml", TEMPLATES_DIR / name_or_path / "template.yaml")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(p.parent.name for p in TEMPLATES_DIR.glob("*/template.yaml")))
    raise FacekitError(f"No template {name_or_path!r}. Give a template.yaml, a work dir, or a name: {known}.")
