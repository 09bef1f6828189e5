"""ExecuTorch: one .pte, lowered to XNNPACK; PyTorch's own way onto phones, in the place of libtorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facekit.base.files import replacing
from facekit.base.reading import HEAD_BYTES, open_file, stand_in
from facekit.errors import FacekitError
from facekit.machine.native_output import native_output_hidden
from facekit.structures import Activated, Decoded
from facekit.targets import Backend
from facekit.targets.reading.about import KEY, parse_about, template_for
from facekit.targets.reading.outputs import GraphOutputs, check_size
from facekit.targets.reading.seal import check_seal, sealed
from facekit.template import Template

if TYPE_CHECKING:
    from facekit.targets.writing.draft import Draft

MAX_BYTES = 1 << 30
MAX_SIDE = 2048  # pixels, of files that take any size: the runtime sets memory aside for the largest
MAX_TENSOR_BYTES = 1 << 31  # that a file may have set aside for one input or output
MAGIC = b"ET12"  # at byte 4 of the flatbuffer


class ExecuTorchBackend(Backend):
    """A .pte in executorch.runtime, which takes as many threads as it likes."""

    fixed_batch: int | None = 1

    def __init__(self, weights: Path, template: Template | None) -> None:
        self.source = str(weights)
        self._check_head(weights)
        check_seal(weights, MAX_BYTES)
        with native_output_hidden():  # which tells of the processor, and of failures past Python
            import torch
            from executorch.runtime import Runtime, Verification

            self.torch = torch
            try:
                program = Runtime.get().load_program(weights, verification=Verification.InternalConsistency)
                names = set(program.method_names)
                said = program.load_method(KEY).execute([])[0] if KEY in names else None
                self.method: Any = program.load_method("forward")
                metadata = self.method.metadata
            except Exception as error:  # the binding raises RuntimeError, ValueError and others
                reason = " ".join(str(error).split())[:200]
                raise FacekitError(
                    f"{weights}: not a program that ExecuTorch can run, cut off or damaged: {reason}. Bring it again."
                ) from error
        about = parse_about(said, weights, template)
        self.template = template_for(template, about, weights)
        self.most_hw = self._input_size(metadata)
        self.outputs = GraphOutputs(self.template, self.source)
        head = self.outputs.head
        decoded = ["boxes", "scores", *["landmarks"] * head.has_landmarks]
        self.names = head.level_names if head.any_size else decoded
        is_sized = about is not None and about.size_hw is not None
        self.fixed_size_hw = self.most_hw if is_sized or not head.any_size else None
        check_size(self.fixed_size_hw, self.template, self.source)
        self.most_side = min(self.most_hw) if self.fixed_size_hw is None else None
        size_hw = self.outputs.example_size(self.fixed_size_hw)
        self.outputs.recognise(self._run(np.zeros((1, 3, *size_hw), dtype=np.float32)), size_hw)

    def _check_head(self, weights: Path) -> None:
        with open_file(weights, MAX_BYTES, "Check the path.") as file:
            head = file.read(HEAD_BYTES)
        if (what := stand_in(head)) is not None:
            raise FacekitError(f"{weights}: is {what}.")
        if head[4:8] != MAGIC:
            raise FacekitError(f"{weights}: not a program of ExecuTorch's, cut off or damaged. Bring it again.")

    def _input_size(self, metadata: Any) -> tuple[int, int]:
        """The largest picture. Raises FacekitError for anything but one picture in float32."""
        try:
            infos = [metadata.input_tensor_meta(i) for i in range(metadata.num_inputs())]
            outputs = [metadata.output_tensor_meta(i) for i in range(metadata.num_outputs())]
        except (IndexError, RuntimeError) as error:  # some of them are no tensors
            raise FacekitError(f"{self.source}: not a detector's program: {error}. Bring it again.") from error
        shapes = [tuple(info.sizes()) for info in infos]
        sizes = [info.nbytes() for info in (*infos, *outputs)]
        if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][:2] != (1, 3) or max(sizes) > MAX_TENSOR_BYTES:
            raise FacekitError(f"{self.source}: expected one input (1, 3, height, width), got {shapes[:3]}.")
        return int(shapes[0][2]), int(shapes[0][3])

    def _run(self, blob: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        size_hw = blob.shape[2:]
        if any(side > most for side, most in zip(size_hw, self.most_hw, strict=True)):
            raise FacekitError(
                f"{self.source}: a picture of {size_hw[1]}x{size_hw[0]} is larger than the {self.most_hw[1]}x"
                f"{self.most_hw[0]} that the file sets memory aside for. Use another format, such as onnx."
            )
        try:
            found = self.method.execute([self.torch.from_numpy(blob)])
        except Exception as error:  # as above
            reason = " ".join(str(error).split())[:200]
            raise FacekitError(f"{self.source}: can't run a picture of {size_hw[1]}x{size_hw[0]}: {reason}") from error
        if len(found) != len(self.names):
            raise FacekitError(f"{self.source}: gives {len(found)} tensors, expected {', '.join(self.names)}.")
        # Copied: the runtime writes the next picture's into the same memory.
        arrays = [np.array(tensor.numpy()) for tensor in found]
        return dict(zip(self.names, arrays, strict=True))

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        return self.outputs(self._run(self.outputs.feed(images_bgr)), images_bgr.shape[1:3])


def open_weights(
    weights: Path, template: Template | None, device: str | None, threads: int | None
) -> ExecuTorchBackend:
    """Raises FacekitError for a file that is no program, or none of the template's."""
    return ExecuTorchBackend(weights, template)


def write(draft: Draft, path: Path) -> None:
    """Lowers the graph to XNNPACK; of any size up to MAX_SIDE where it takes any. Raises FacekitError where that
    fails."""
    from facekit.targets.writing.converters import quiet_converter

    with quiet_converter():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        from facekit.targets.torchscript import exported_program

        program = exported_program(draft, MAX_SIDE, batch=1)
        try:
            lowered = to_edge_transform_and_lower(
                program, partitioner=[XnnpackPartitioner()], constant_methods={KEY: draft.about.to_json()}
            )
            data = lowered.to_executorch().buffer
        except Exception as error:  # its passes raise whatever comes
            raise FacekitError(f"ExecuTorch: can't lower the graph: {' '.join(str(error).split())[:300]}") from error
    with replacing(path) as beside:
        beside.write_bytes(sealed(data))
