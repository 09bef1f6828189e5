"""ncnn (Tencent): .param and .bin, written by pnnx; small, without dependencies, for phones and small boards."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facekit.base.files import replacing
from facekit.errors import FacekitError
from facekit.machine.cores import usable_cores
from facekit.structures import Activated, Decoded
from facekit.targets import Backend
from facekit.targets.reading.about import read_beside, template_for
from facekit.targets.reading.outputs import GraphOutputs, check_size
from facekit.targets.reading.seal import warn_of_another_bin
from facekit.targets.writing.converters import run_converter
from facekit.template import Template
from facekit.weights.ncnn_file import check_ncnn_files

if TYPE_CHECKING:
    from facekit.targets.writing.draft import Draft


class NcnnBackend(Backend):
    """A .param beside its .bin, on the CPU in full precision."""

    fixed_batch: int | None = 1
    is_parallel = True  # each call has an extractor of its own

    def __init__(self, weights: Path, template: Template | None, threads: int | None) -> None:
        import ncnn

        checked = check_ncnn_files(weights)
        said = read_beside(checked.param)
        warn_of_another_bin(checked.binary, None if said is None else said.bin_sha256, checked.param)
        self.template = template_for(template, said, weights)
        self.fixed_size_hw = None if said is None else said.size_hw
        self.ncnn = ncnn
        self.network = ncnn.Net()
        options = self.network.opt
        options.num_threads = threads or usable_cores()
        options.use_vulkan_compute = False
        # Half precision would move the scores in the third digit.
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        if self.network.load_param(str(checked.param)) or self.network.load_model(str(checked.binary)):
            raise FacekitError(f"{weights}: not a network that ncnn {ncnn.__version__} can run. Export it again.")
        self.outputs = GraphOutputs(self.template, str(weights))
        self.names = self._output_names(checked.outputs, str(weights))
        check_size(self.fixed_size_hw, self.template, str(weights))
        size_hw = self.outputs.example_size(self.fixed_size_hw)
        self.outputs.recognise(self._run(np.zeros((1, 3, *size_hw), dtype=np.float32)), size_hw)

    def _output_names(self, count: int, source: str) -> list[str]:
        """Ours, in the order of out0, out1, ...: ncnn's own say nothing."""
        head = self.outputs.head
        decoded = ["boxes", "scores", *["landmarks"] * head.has_landmarks]
        names = head.level_names if head.any_size else decoded
        if count != len(names):
            raise FacekitError(
                f"{source}: has {count} outputs, a {self.template.name} {len(names)} ({', '.join(names)}). Use the "
                f"template that it was exported with."
            )
        return names

    def _run(self, blob: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        extractor = self.network.create_extractor()
        extractor.input("in0", self.ncnn.Mat(np.ascontiguousarray(blob[0])))
        found = {}
        for number, name in enumerate(self.names):
            failed, array = extractor.extract(f"out{number}")
            if failed:
                size = f"{blob.shape[3]}x{blob.shape[2]}"
                raise FacekitError(f"{self.outputs.source}: can't run a picture of {size} (ncnn says {failed}).")
            found[name] = self._with_batch(name, np.array(array))
        return found

    def _with_batch(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        kind = name.partition("_")[0]
        columns = self.outputs.head.level_kinds.get(kind, 0)
        if self.outputs.head.any_size and array.ndim == 3 and array.shape[0] % columns == 0:
            return _rows(array, columns)
        return array[None]

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        return self.outputs(self._run(self.outputs.feed(images_bgr)), images_bgr.shape[1:3])


def _rows(level: NDArray[Any], columns: int) -> NDArray[Any]:
    """A map (priors * columns, H, W) -> (1, H * W * priors, columns), cell by cell, prior by prior."""
    channels, height, width = level.shape
    of_priors = level.reshape(channels // columns, columns, height, width)
    return np.ascontiguousarray(of_priors.transpose(2, 3, 0, 1)).reshape(1, -1, columns)


def open_weights(weights: Path, template: Template | None, device: str | None, threads: int | None) -> NcnnBackend:
    """Raises FacekitError for files that are no network, or none of the template's."""
    return NcnnBackend(weights, template, threads)


def write(draft: Draft, path: Path) -> None:
    """Writes the .param and its .bin. Layouts "per_level" leave as maps (priors * columns, H / S, W / S): pnnx would
    bind their rows to one size.

    Raises FacekitError where pnnx fails, or for a network that has no maps.
    """
    import pnnx
    import torch

    from facekit.targets.writing.graph import quiet_tracing
    from facekit.targets.writing.maps import MapsGraph, has_maps

    graph = draft.graph
    if graph.per_level and not has_maps(graph.network):
        raise FacekitError(
            f"ncnn: a {draft.template.model.architecture} has no method `maps`, which its levels leave by. Add one: "
            f"docs/adding-a-model.md."
        )
    module: torch.nn.Module = MapsGraph(graph).eval() if graph.per_level else graph
    example = graph.example()
    with tempfile.TemporaryDirectory(prefix="facekit-") as scratch:
        traced = Path(scratch) / "m.pt"
        with quiet_tracing(), torch.no_grad():
            torch.jit.trace(module, example, check_trace=False).save(str(traced))
        shape = ",".join(map(str, example.shape))
        # fp16=1, pnnx's default, halves the .bin and moves scores by a hundredth.
        run_converter([pnnx.EXEC_PATH, traced.name, f"inputshape=[{shape}]f32", "fp16=0"], traced.parent, "pnnx")
        param, binary = (traced.with_name(f"m.ncnn.{kind}") for kind in ("param", "bin"))
        if not (param.is_file() and binary.is_file()):
            raise FacekitError("pnnx: wrote no ncnn network. Please report it with the template.")
        text = param.read_text(encoding="utf-8")
        if graph.any_size:
            text = with_free_sizes(text)
        with replacing(path.with_suffix(".bin")) as beside:
            beside.write_bytes(binary.read_bytes())
        with replacing(path) as beside:
            beside.write_text(text, encoding="utf-8", newline="\n")


def with_free_sizes(param: str) -> str:
    """A .param whose enlargements go to the size of the level that they are added to, where pnnx wrote down that of
    the picture that was traced.

    Layer Interp takes the size from a second input (dynamic_target_size, 5=1). A blob that two layers read goes
    through Split first. Raises FacekitError where an enlargement is added to nothing.
    """
    magic, _, *lines = param.strip().splitlines()
    layers = [line.split() for line in lines]
    out: list[list[str]] = []
    for number, layer in enumerate(layers):
        if layer[0] != "Interp" or not any(part.startswith("3=") for part in layer):
            out.append(layer)
            continue
        source, enlarged = layer[4], layer[5]
        adding = next((other for other in layers[number + 1 :] if other[0] == "BinaryOp" and enlarged in other), None)
        if adding is None or adding[2] != "2":
            raise FacekitError("ncnn: an enlargement of the graph is bound to the size that was traced.")
        place = 4 if adding[5] == enlarged else 5
        other = adding[place]
        out.append(["Split", f"split_{layer[1]}", "1", "2", other, f"{other}_like", f"{other}_added"])
        out.append(["Interp", layer[1], "2", "1", source, f"{other}_like", enlarged, "0=1", "5=1"])
        adding[place] = f"{other}_added"
    blobs = sum(int(layer[3]) for layer in out)
    return "\n".join([magic, f"{len(out)} {blobs}", *map(" ".join, out)]) + "\n"
