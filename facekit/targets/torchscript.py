"""Networks that PyTorch runs without facekit: TorchScript for libtorch (.ts), and torch.export's program (.pt2)."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from facekit.base.files import replacing
from facekit.errors import FacekitError
from facekit.machine.cores import usable_cores
from facekit.ops.head import Head
from facekit.structures import Activated, Decoded
from facekit.targets import Backend
from facekit.targets.reading.about import KEY, parse_about, template_for
from facekit.targets.reading.outputs import GraphOutputs, check_size
from facekit.template import Template
from facekit.weights.torch_programs import check_exported_program, check_torchscript

if TYPE_CHECKING:
    from facekit.targets.writing.draft import Draft

MAX_SIDE = 16384  # pixels; torch.export wants a bound


class TorchProgramBackend(Backend):
    """A .ts or a .pt2 on the CPU, or on a GPU where `device` says so. Either is code: it is looked through first."""

    fixed_batch: int | None = None
    is_parallel = True

    def __init__(self, weights: Path, template: Template | None, device: str | None) -> None:
        is_script = weights.suffix.lower() == ".ts"
        said = (check_torchscript if is_script else check_exported_program)(weights)
        about = parse_about(said, weights, template)
        self.template = template_for(template, about, weights)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TorchScript is deprecated, which docs/deployment.md says
                self.network = _load_script(weights) if is_script else torch.export.load(weights).module()
        except Exception as error:  # a damaged archive trips torch in any way
            reason = " ".join(str(error).split())[:200]
            raise FacekitError(f"{weights}: not a network that PyTorch can run: {reason} Export it again.") from error
        try:
            # Not torch.device(): a frozen .ts has nothing whose move would fail where there is no such GPU.
            self.device = torch.zeros(1, device=device or "cpu").device
            self.network.to(self.device)
        except (RuntimeError, AssertionError) as error:  # no such GPU, or a PyTorch without any
            raise FacekitError(f"device {device}: {str(error).splitlines()[0]} Take cpu, or leave it out.") from error
        self.outputs = GraphOutputs(self.template, str(weights))
        names = self.outputs.head.level_names
        if not self.outputs.head.any_size:
            names = ["boxes", "scores", *["landmarks"] * self.outputs.head.has_landmarks]
        self.names = names
        fixed = about.size_hw if about is not None else None
        self.fixed_size_hw = fixed if fixed or self.outputs.head.any_size else self.template.input.size_hw
        check_size(self.fixed_size_hw, self.template, str(weights))
        is_bounded = not is_script and self.fixed_size_hw is None
        self.least_side = least_side(self.template.evaluation.size_multiple, self.outputs.head) if is_bounded else 1
        self.most_side = MAX_SIDE if is_bounded else None
        size_hw = self.outputs.example_size(self.fixed_size_hw)
        self.outputs.recognise(self._run(np.zeros((1, 3, *size_hw), dtype=np.float32)), size_hw)

    @torch.inference_mode()
    def _run(self, blob: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        try:
            found = self.network(torch.from_numpy(blob).to(self.device))
        except Exception as error:  # as above
            reason = " ".join(str(error).split())[-200:]
            size = f"{blob.shape[3]}x{blob.shape[2]}"
            raise FacekitError(f"{self.outputs.source}: can't run a picture of {size}: {reason}") from error
        arrays = [tensor.cpu().numpy() for tensor in found if isinstance(tensor, torch.Tensor)]
        if len(arrays) != len(self.names):
            raise FacekitError(f"{self.outputs.source}: gives {len(arrays)} tensors, expected {', '.join(self.names)}.")
        return dict(zip(self.names, arrays, strict=True))

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        return self.outputs(self._run(self.outputs.feed(images_bgr)), images_bgr.shape[1:3])


def _load_script(weights: Path) -> Any:
    return torch.jit.load(str(weights), map_location="cpu")


def open_weights(
    weights: Path, template: Template | None, device: str | None, threads: int | None
) -> TorchProgramBackend:
    """`threads`: of the whole process, PyTorch has one pool. Raises FacekitError for a file that holds anything but a
    network, is damaged, or of another template."""
    if threads is not None:
        torch.set_num_threads(threads)
    elif usable_cores() < torch.get_num_threads():
        torch.set_num_threads(usable_cores())
    return TorchProgramBackend(weights, template, device)


def write(draft: Draft, path: Path) -> None:
    """Writes model.ts, frozen, and model.pt2."""
    write_script(draft, path)
    write_program(draft, path.with_suffix(".pt2"))


def write_script(draft: Draft, path: Path) -> None:
    """A frozen trace: batch norms are folded, and one method is left."""
    from facekit.targets.writing.graph import quiet_tracing

    with quiet_tracing(), torch.no_grad():
        traced = torch.jit.trace(draft.graph, draft.graph.example(), check_trace=False)
        frozen = torch.jit.freeze(traced)
        with replacing(path) as beside:
            # By memory: where the disk is full, PyTorch's own writer of files ends the process.
            beside.write_bytes(frozen.save_to_buffer(_extra_files={KEY: draft.about.to_json()}))


def least_side(size_multiple: int, head: Head) -> int:
    """In pixels, of what a program of any size takes: two cells of the coarsest level, as torch.export would take a
    single one for a constant. `size_multiple`: that sides are multiples of."""
    return -(-2 * max(head.strides) // size_multiple) * size_multiple


def exported_program(draft: Draft, most_px: int = MAX_SIDE, batch: int = 1024) -> torch.export.ExportedProgram:
    """The graph by torch.export, of any size up to most_px pixels a side where it takes any. `batch`: the most
    pictures at once."""
    from torch.export import Dim

    from facekit.targets.writing.graph import quiet_tracing

    graph = draft.graph
    shape: dict[int, object] = {0: Dim("batch", min=1, max=batch)} if batch > 1 else {}
    if graph.any_size:
        units = most_px // graph.size_multiple
        least = least_side(graph.size_multiple, graph.head) // graph.size_multiple
        shape |= {
            2: graph.size_multiple * Dim("height_units", min=least, max=units),
            3: graph.size_multiple * Dim("width_units", min=least, max=units),
        }
    with quiet_tracing(), torch.no_grad():
        return torch.export.export(
            graph, (graph.example(batch=2 if batch > 1 else 1),), dynamic_shapes={graph.input_name: shape or None}
        )


def write_program(draft: Draft, path: Path) -> None:
    """torch.export's program, without what loading would have to run: pickled examples, and guards in Python."""
    program: Any = exported_program(draft)
    program._example_inputs = None
    program._guards_code = []
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn"):
            node.meta.pop(key, None)
    content = io.BytesIO()  # as above
    torch.export.save(program, content, extra_files={KEY: draft.about.to_json()})
    with replacing(path) as beside:
        beside.write_bytes(content.getbuffer())
