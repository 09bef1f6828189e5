"""A compression: float weights in; a compressed checkpoint and its IR, measured before and after, out."""

from __future__ import annotations

import copy
import dataclasses
import gzip
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from facekit.base.files import check_writable_folder, replacing_set
from facekit.base.progress import progress_bar, signs_of_life, working
from facekit.detector import Detector
from facekit.engine.compress.int8 import quantize
from facekit.engine.compress.options import CompressOptions
from facekit.engine.compress.sparsity import measured_sparsity, sparsify
from facekit.engine.evaluation.evaluate import evaluate_labelled, metric_value
from facekit.engine.training.batch_norm import prepare_folded
from facekit.engine.training.checkpoints import holding
from facekit.engine.training.loop import Batches, Learner, Progress, make_batches, train_one_epoch
from facekit.errors import FacekitError
from facekit.feed import prepare
from facekit.labels.learnable import check_countable, check_learnable
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.memory import keep_freed_memory
from facekit.models import build_model
from facekit.models.detector_network import DetectorNetwork
from facekit.ops.pixels import normalise
from facekit.pictures.read import read_picture
from facekit.results.existing import check_replaceable_model
from facekit.targets.nncf_ import describe_compression
from facekit.targets.openvino import write_from_torch
from facekit.targets.pytorch import PyTorchBackend
from facekit.targets.writing.graph import ExportGraph
from facekit.template import Template
from facekit.weights.checkpoint import (
    Checkpoint,
    check_replaceable_checkpoint,
    load_state,
    new_meta,
    save_checkpoint,
)
from facekit.weights.load import load_weights

log = logging.getLogger(__name__)

WARMUP_FRACTION = 0.1  # of the fine-tuning: fresh quantisers and masks want small first steps
MOMENTUM = 0.9  # whatever optimiser the template trains with: compression mends, by SGD


@dataclass(frozen=True)
class Footprint:
    """One row of the table that compress prints."""

    name: str
    bin_bytes: int
    xml_bytes: int
    gzip_bytes: int
    ap: float | None  # per cent


def compress(
    template: Template,
    weights: Path,
    train_pictures: list[PictureLabels],
    val_pictures: list[PictureLabels],
    options: CompressOptions,
) -> tuple[Path, list[Footprint]]:
    """Writes compressed.pth, model.xml and model.bin; returns the checkpoint's path and the rows before and after.

    With validation pictures, the best state by AP of calibration and of every pass is kept, so fine-tuning can't ruin
    what calibration gave. Raises FacekitError for weights that don't fit, a folder that can't be written, or
    validation pictures in which no face counts.
    """
    check_learnable(train_pictures, template.augmentation.min_face_size, "the fine-tuning of a compression")
    check_countable(val_pictures)
    check_writable_folder(options.save_checkpoints_to)
    with signs_of_life(), holding(options.save_checkpoints_to):
        return _compress(template, weights, train_pictures, val_pictures, options)


def _compress(
    template: Template,
    weights: Path,
    train_pictures: list[PictureLabels],
    val_pictures: list[PictureLabels],
    options: CompressOptions,
) -> tuple[Path, list[Footprint]]:
    check_replaceable_checkpoint(options.save_checkpoints_to / "compressed.pth")
    for name in ("model.xml", "model.bin"):
        check_replaceable_model(options.save_checkpoints_to / name)
    checkpoint = load_weights(weights, template)
    if checkpoint.meta.get("compression"):
        raise FacekitError(f"{weights}: compressed already; give the weights that it was made from.")
    torch.manual_seed(options.seed)
    # Compression changes every layer, and mends every layer.
    template = dataclasses.replace(template, training=dataclasses.replace(template.training, frozen=()))
    plain = build_model(template)
    load_state(plain, checkpoint.state_dict, str(weights))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep_freed_memory()
    plain.to(device)  # not channels last: NNCF flattens weights by view()
    batches = make_batches(
        train_pictures, template, options.batch_size or template.training.batch_size, options.workers, options.seed,
        pin_memory=device.type == "cuda",
    )  # fmt: skip
    if checkpoint.meta.get("batch_norm_folded"):
        prepare_folded(plain, batches, template)

    run = _Run(template, val_pictures, batches, options)
    network: nn.Module = plain
    with tempfile.TemporaryDirectory(prefix="facekit-") as scratch:
        before = run.footprint("FP32", network, Path(scratch))
    calibration = list(_calibration(train_pictures, template, device))
    names = []
    if options.sparsity:
        settings = template.compression.sparsity
        with working("sparsity"):
            network = sparsify(network, calibration, settings)
        network = run.fine_tune(network, "sparse", settings.learning_rate, settings.passes)
        names.append(f"sparse {measured_sparsity(network):.0%}")
    if options.quantization:
        quantization = template.compression.quantization
        with working(f"INT8: calibration with {len(calibration)} pictures"):
            network = quantize(network, calibration, quantization)
        network = run.fine_tune(network, "INT8", quantization.learning_rate, quantization.passes)
        names.append("INT8")

    path = options.save_checkpoints_to / "compressed.pth"
    meta = new_meta(template, checkpoint.epoch, int(checkpoint.meta["iteration"]))
    meta["compression"] = describe_compression(network)
    with replacing_set(options.save_checkpoints_to) as together:
        save_checkpoint(together / path.name, Checkpoint(meta, network.state_dict()))
        after = run.footprint(" + ".join(names), network, together)
    return path, [before, after]


@dataclass
class _Run:
    template: Template
    val_pictures: list[PictureLabels]
    batches: Batches
    options: CompressOptions

    def ap(self, detector: Detector) -> float | None:
        if not self.val_pictures:
            return None
        return metric_value(evaluate_labelled(detector, self.val_pictures), "ap")

    def footprint(self, name: str, network: nn.Module, folder: Path) -> Footprint:
        """Writes the network's IR into the folder, and measures that very file in OpenVINO."""
        xml = folder / "model.xml"
        # A copy on the CPU: the IR is traced there, and training may go on where the network is.
        graph = ExportGraph(copy.deepcopy(network).cpu().eval(), self.template)
        with working(f"{name}: OpenVINO IR"):
            write_from_torch(graph, xml, graph.about)
            detector = Detector.open(xml, self.template)
        ap = self.ap(detector)
        data = xml.with_suffix(".bin").read_bytes()
        return Footprint(name, len(data), xml.stat().st_size, len(gzip.compress(data)), ap)

    def fine_tune(self, network: nn.Module, name: str, learning_rate: float, passes: int) -> nn.Module:
        """Trains for some passes at a constant rate after a short warm-up; ends with the best state seen."""
        passes = passes if self.options.passes is None else self.options.passes
        assert isinstance(network, DetectorNetwork)  # NNCF copies a network, or changes it, but not its class
        device = next(network.parameters()).device
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trainable, lr=0.0, momentum=MOMENTUM)
        steps = passes * min(len(self.batches), self.options.max_iterations or len(self.batches))
        warmup = max(1, int(WARMUP_FRACTION * steps))
        progress = Progress(0, passes, 0)
        learner = Learner(
            network, network, optimizer, self.template,
            lambda _, iteration: learning_rate * min(1.0, (iteration + 1) / warmup),
        )  # fmt: skip
        best_ap, best_state = self._judge(network, f"{name}, before fine-tuning"), _copy_state(network)
        for epoch in range(passes):
            progress.start_epoch(epoch)
            train_one_epoch(learner, self.batches, progress, max_iterations=self.options.max_iterations)
            ap = self._judge(network, f"{name}, pass {epoch + 1} of {passes}")
            if ap is None or best_ap is None or ap > best_ap:
                best_ap, best_state = ap, _copy_state(network)
        network.load_state_dict(best_state)
        return network.to(device).eval()

    def _judge(self, network: nn.Module, name: str) -> float | None:
        ap = self.ap(Detector(PyTorchBackend(network.eval(), self.template), self.template))
        if ap is not None:
            log.info("%s: AP @ [IoU=0.50:0.95] %.2f %%", name, ap)
        return ap


def _copy_state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _calibration(pictures: Sequence[PictureLabels], template: Template, device: torch.device) -> Iterator[Tensor]:
    """Training pictures, evenly spread over the set, as the evaluation protocol feeds them."""
    wanted = min(template.compression.quantization.calibration_pictures, len(pictures))
    for index in progress_bar(range(wanted), delay_s=2, desc="calibration pictures", unit="picture"):
        picture = pictures[index * len(pictures) // wanted]
        image_bgr, _ = prepare(read_picture(picture.path, picture.size_wh), template)
        pixels = torch.from_numpy(image_bgr).permute(2, 0, 1)[None].to(device)
        yield normalise(pixels, template.input)


def format_footprints(rows: Sequence[Footprint], protocol: str) -> str:
    """The table before and after."""
    lines = [f"{'':<18} {'.bin KiB':>9} {'ratio':>6} {'.bin gzip':>10} {'.xml KiB':>9} {'AP %':>7}"]
    for row in rows:
        ap = "-" if row.ap is None else f"{row.ap:.2f}"
        lines.append(
            f"{row.name:<18} {row.bin_bytes / 1024:>9.1f} {row.bin_bytes / rows[0].bin_bytes:>6.3f} "
            f"{row.gzip_bytes / 1024:>10.1f} {row.xml_bytes / 1024:>9.1f} {ap:>7}"
        )
    return "\n".join([*lines, f"protocol: OpenVINO f32, AP @ [IoU=0.50:0.95]; {protocol}"])
