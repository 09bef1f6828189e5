"""OpenVINO: converted from the ONNX graph or from PyTorch, run on the CPU in full precision. Reads .onnx as well."""

from __future__ import annotations

import copy
import shutil
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from facekit import __version__
from facekit.base.files import replacing
from facekit.base.reading import file_sha256
from facekit.errors import FacekitError
from facekit.machine.cores import usable_cores
from facekit.structures import Activated, Decoded
from facekit.targets import Backend, Given, Stream
from facekit.targets.reading.about import About, check_fits, parse_about, stated_template
from facekit.targets.reading.layouts import GraphFacts, read_graph
from facekit.targets.reading.outputs import GraphInput
from facekit.targets.reading.seal import warn_of_another_bin
from facekit.weights.ir_file import check_ir_files, check_tensor_sizes
from facekit.weights.onnx_file import check_onnx_file

if TYPE_CHECKING:
    import torch

    from facekit.targets.writing.draft import Draft
    from facekit.targets.writing.graph import ExportGraph

_NO_DIGEST = "0" * 64  # in an .xml until its .bin is written


class OpenVinoBackend(Backend):
    """An IR, .xml beside .bin, or an .onnx, in OpenVINO on the CPU."""

    def __init__(self, weights: Path, template: Given, threads: int | None) -> None:
        is_onnx = weights.suffix.lower() == ".onnx"
        main = weights if is_onnx else weights.with_suffix(".xml")
        if is_onnx:
            check_onnx_file(main)
        else:
            found = check_ir_files(main)
            warn_of_another_bin(found.binary, found.bin_sha256, main)
        try:
            model = the_core().read_model(main)
            check_tensor_sizes(model, main)
            self.threads = threads or usable_cores()
            self.model, self._any_batch = of_one_picture(model)
            self.compiled = compiled(self.model, self.threads, "LATENCY")
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise FacekitError(f"{main}: not a graph that OpenVINO can run: {reason} Export it again.") from error
        shapes = [[None if side.is_dynamic else side.get_length() for side in value.partial_shape] for value in
                  model.inputs if value.partial_shape.rank.is_static]  # fmt: skip
        types = [_type_name(value) for value in model.inputs if value.partial_shape.rank.is_static]
        takes = GraphInput(shapes, types, str(main))
        self.source, self.is_uint8 = str(main), takes.is_uint8
        self.request = self.compiled.create_infer_request()
        self._batch_request: ov.InferRequest | None = None
        # Converters leave outputs without names or with numbers for such: places tell them apart, names are for us.
        self.names = [_name(value, place) for place, value in enumerate(model.outputs)]
        said = parse_about(_rt_info(model, ["facekit", "about"]), weights, template)
        check_fits(template, said, weights)
        stated = template or stated_template(said, weights, _named_template(model))
        self.outputs = read_graph(stated, GraphFacts(str(main), takes, *_inside(model)), self._probe)
        self.template = self.outputs.template
        self.fixed_size_hw = takes.fixed_size_hw
        self.fixed_batch = takes.fixed_batch if self.outputs.is_ours else 1
        self.suppresses = self.outputs.suppresses
        self.most_pixels = 0  # batches take up to twice as long a picture as pictures one by one

    def _probe(self, blob: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """The outputs of a test picture, planes of any numbers."""
        if not self.is_uint8:
            return self._run(blob)
        return self._run(np.ascontiguousarray(blob.transpose(0, 2, 3, 1).clip(0, 255).astype(np.uint8)))

    def fed(self, images_bgr: NDArray[np.uint8]) -> NDArray[Any]:
        """What the network takes."""
        return np.ascontiguousarray(images_bgr) if self.is_uint8 else self.outputs.feed(images_bgr)

    def _run(self, blob: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        request = self.request if len(blob) == 1 else self._of_batches()
        request.set_input_tensor(0, ov.Tensor(blob, shared_memory=True))
        try:
            request.infer()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise FacekitError(f"{self.source}: can't run a picture: {reason}") from error
        # Copied: the runtime writes the next picture's into the same memory.
        return {name: request.get_output_tensor(place).data.copy() for place, name in enumerate(self.names)}

    def _of_batches(self) -> ov.InferRequest:
        """Takes several pictures at once; made when they first come."""
        if self._any_batch is None:
            return self.request
        if self._batch_request is None:
            network = compiled(self._any_batch, self.threads, "LATENCY")
            self._batch_request = network.create_infer_request()
        return self._batch_request

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        return self.outputs(self._run(self.fed(images_bgr)), images_bgr.shape[1:3])

    def in_network(self, network: ov.CompiledModel) -> OpenVinoBackend:
        """The same detector in another network of the same inputs and outputs, which takes one picture at a time."""
        other = copy.copy(self)
        other.compiled, other.request = network, network.create_infer_request()
        other.fixed_batch, other._any_batch, other._batch_request = 1, None, None
        return other

    def streaming(self) -> OpenVinoStream:
        """The same network for many pictures: as many a second as the cores give, each later than alone."""
        return OpenVinoStream(self)


class OpenVinoStream(Stream):
    """Several pictures on their way at once, in OpenVINO's queue of requests."""

    fixed_batch: int | None = 1

    def __init__(self, single: OpenVinoBackend) -> None:
        self.template, self.fixed_size_hw, self.outputs = single.template, single.fixed_size_hw, single.outputs
        self.names, self.source, self.fed = single.names, single.source, single.fed
        self._model, self._threads = single.model, single.threads
        # By the shape of what they are fed: the first that comes has a graph of its own, which is a tenth faster, all
        # others share one (the empty shape).
        self._queues: dict[tuple[int, ...], ov.AsyncInferQueue] = {}
        self.done: dict[int, dict[str, NDArray[Any]]] = {}

    def _queue_of(self, shape: tuple[int, ...]) -> ov.AsyncInferQueue:
        key = shape if shape in self._queues or not self._queues else ()
        if key not in self._queues:
            model = of_shape(self._model, key) if key else self._model
            network = compiled(model, self._threads, "THROUGHPUT")
            # One request more than is computed at once: it waits, ready, while Python looks at what came before.
            requests = int(network.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + 1
            self._queues[key] = ov.AsyncInferQueue(network, requests)
            self._queues[key].set_callback(self._keep)
        return self._queues[key]

    def _wait(self) -> None:
        for queue in self._queues.values():
            queue.wait_all()

    def _keep(self, request: ov.InferRequest, number: int) -> None:
        # Copied: the runtime writes the next picture's into the same memory.
        arrays = {name: request.get_output_tensor(place).data.copy() for place, name in enumerate(self.names)}
        self.done[number] = arrays

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        (found,) = self.many([images_bgr])
        return found

    def many(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Activated | Decoded]:
        """What is said of each (1, H, W, 3), in their order; `batches` is read as requests become free, and what waits
        is bounded by them."""
        self.done.clear()
        fed: dict[int, ov.Tensor] = {}  # which must live until its picture is done, as nothing is copied
        sizes: dict[int, tuple[int, int]] = {}
        given = 0
        try:
            for number, images_bgr in enumerate(batches):
                sizes[number] = (images_bgr.shape[1], images_bgr.shape[2])
                blob = self.fed(images_bgr)
                fed[number] = ov.Tensor(blob, shared_memory=True)
                self._queue_of(blob.shape).start_async({0: fed[number]}, number, share_inputs=True)
                while given in self.done:
                    fed.pop(given)
                    yield self.outputs(self.done.pop(given), sizes.pop(given))
                    given += 1
            self._wait()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise FacekitError(f"{self.source}: can't run a picture: {reason}") from error
        finally:
            self._wait()
        while given in self.done:
            yield self.outputs(self.done.pop(given), sizes.pop(given))
            given += 1


@cache
def the_core() -> ov.Core:
    """The process's only one, which stays. On processors with AMX each sets up a stack for signal handlers and frees it
    at its end, though another may have taken note of it meanwhile: then the next signal, a Ctrl-C, ends the process."""
    return ov.Core()


def of_one_picture(model: ov.Model) -> tuple[ov.Model, ov.Model | None]:
    """The graph for batches of one where its pictures have one size, and itself if that is another: OpenVINO computes a
    tenth faster what it knows all sizes of."""
    if len(model.inputs) != 1:
        return model, None
    shape = model.inputs[0].partial_shape
    if shape.rank.is_dynamic or len(shape) != 4:
        return model, None
    if not shape[0].is_dynamic or any(side.is_dynamic for side in list(shape)[1:]):
        return model, None
    try:
        single = of_shape(model, (1, *(side.get_length() for side in list(shape)[1:])))
    except RuntimeError:  # the file's own batch is part of its computation
        return model, None
    return single, model


def of_shape(model: ov.Model, shape: tuple[int, ...]) -> ov.Model:
    """Its copy for inputs of that shape alone. Raises RuntimeError for a graph that takes others."""
    single = model.clone()
    single.reshape(list(shape))
    return single


def compiled(model: ov.Model, threads: int, hint: Literal["LATENCY", "THROUGHPUT"]) -> ov.CompiledModel:
    """Processors with bf16 units would compute in bf16 and move the scores in the third digit: not so here."""
    settings = {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads), "PERFORMANCE_HINT": hint,
    }  # fmt: skip
    return the_core().compile_model(model, "CPU", settings)


def open_weights(weights: Path, template: Given, device: str | None, threads: int | None) -> OpenVinoBackend:
    """Raises FacekitError for files that are no graph, or none of the template's."""
    return OpenVinoBackend(weights, template, threads)


def _named_template(model: ov.Model) -> str | None:
    return _rt_info(model, ["facekit", "template"]) or _rt_info(model, ["framework", "facekit_template"])


def _rt_info(model: ov.Model, path: list[str]) -> str | None:
    return str(model.get_rt_info(path).astype(str)) if model.has_rt_info(path) else None


def _inside(model: ov.Model) -> tuple[bool, bool]:
    """What the converter says that it put into the graph: reversed channels; a mean or a scale of pixels."""

    def said(key: str) -> str:
        path = ["conversion_parameters", key]
        return str(model.get_rt_info(path).astype(str)).strip() if model.has_rt_info(path) else ""

    nothing = ("", "()", "[]", "{}", "None", "False", "false", "COMMAND_LINE_DEFAULT")
    return said("reverse_input_channels") not in nothing, any(
        said(key) not in nothing for key in ("mean_values", "scale_values", "scale")
    )


def _type_name(value: ov.Output) -> str:
    name = str(value.element_type.get_type_name())
    return {"f32": "float32", "f64": "float64", "f16": "float16", "u8": "uint8"}.get(name, name)


def _name(value: ov.Output, place: int) -> str:
    names = value.get_names()
    return min(names) if names else f"output {place}"


def write(draft: Draft, path: Path) -> None:
    """Converts the exported ONNX graph to an IR; the input stays raw BGR pixels 0..255."""
    model = converted(draft.onnx)
    if draft.options.takes_uint8:
        model = taking_uint8(model)
    save_ir(model, path, draft.about, draft.options.half)


def converted(source: Path | torch.nn.Module | None, **how: Any) -> ov.Model:
    """ov.convert_model without telemetry, also where OpenVINO was imported before facekit could keep it from that."""
    from openvino.tools.ovc import telemetry_stub

    for name, module in list(sys.modules.items()):
        if name.startswith("openvino.tools.ovc.") and hasattr(module, "tm"):
            setattr(module, "tm", telemetry_stub)  # noqa: B010
    return ov.convert_model(source, **how)


def taking_uint8(model: ov.Model) -> ov.Model:
    """With an input (batch, height, width, 3) uint8, as pictures lie in memory."""
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    return steps.build()


def write_from_torch(graph: ExportGraph, xml_path: Path, about: About) -> None:
    """Converts straight from PyTorch: the way for compressed networks, whose fake quantisers ONNX has no words for."""
    import torch

    from facekit.targets.writing.graph import NamedOutputs, quiet_tracing

    sides = (-1, -1) if graph.any_size else graph.example_size_hw
    with quiet_tracing(), torch.no_grad():
        model = converted(NamedOutputs(graph).eval(), example_input=graph.example(), input=[[-1, 3, *sides]])
    model.inputs[0].set_names({graph.input_name})
    save_ir(model, xml_path, about)


def save_ir(model: ov.Model, xml_path: Path, about: About | None, half: bool = False) -> None:
    """Writes both files whole; the .bin first, so that an .xml never stands beside another one's weights. `half`: with
    weights in float16, which are made float32 again when the file is loaded. `about`: None for others' detectors,
    which are known by their outputs."""
    model.set_rt_info(__version__, ["facekit", "version"])
    model.set_rt_info(_NO_DIGEST, ["facekit", "bin_sha256"])  # also over that of the file that the model was read from
    if about is not None:
        model.set_rt_info(about.template, ["facekit", "template"])
        model.set_rt_info(about.to_json(), ["facekit", "about"])
    with replacing(xml_path) as beside:
        try:
            ov.save_model(model, beside, compress_to_fp16=half)
        except RuntimeError as error:  # so it reports a full or closed disk
            beside.with_suffix(".bin").unlink(missing_ok=True)
            free = shutil.disk_usage(beside.parent).free
            reason = str(error).strip().rpartition("\n")[2]
            raise OSError(f"{reason}; {free >> 20} MiB of the disk are free") from error
        digest = file_sha256(beside.with_suffix(".bin"))
        beside.write_bytes(beside.read_bytes().replace(_NO_DIGEST.encode(), digest.encode()))
        with replacing(xml_path.with_suffix(".bin")) as binary:
            beside.with_suffix(".bin").replace(binary)
