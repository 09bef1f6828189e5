"""Measures contenders in turns, each in its own process, so that the machine's mood meets all alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from facekit.base.progress import progress_bar
from facekit.engine.comparison.contender import Contender, Named
from facekit.engine.evaluation.evaluate import (
    Measured as Found,
)
from facekit.engine.evaluation.evaluate import (
    coco_metric,
    large_faces_metric,
    wider_metrics,
    wider_predictions,
)
from facekit.engine.evaluation.measure import set_words
from facekit.errors import FacekitError, Loss
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.environment import describe, environment, versions
from facekit.metrics.wider import WiderGroundTruth, wider_curves
from facekit.records.evaluation import Metric
from facekit.records.speed import Comparison, Measured, Timing
from facekit.structures import Detections
from facekit.targets.reading.complexity import Complexity, file_complexity
from facekit.targets.reading.layouts import LAYOUTS
from facekit.targets.reading.outputs import GRAPH_SUFFIXES
from facekit.targets.table import files_of
from facekit.template import find_template, known_templates, load_template
from facekit.weights.onnx_file import check_onnx_file

log = logging.getLogger(__name__)

WARM_UP_ROUNDS = 3
TIMES_A_TURN = 3  # one picture after the other before the next contender's turn
PICTURES_A_TURN = 4  # that a process is handed together


@dataclass(frozen=True)
class DataSet:
    """What accuracy is measured on."""

    pictures: Sequence[PictureLabels]
    wider: WiderGroundTruth | None  # None: COCO's AP
    files: tuple[Path, ...] = ()  # of the labels, where there is no WIDER ground truth


@dataclass(frozen=True)
class Plan:
    """How contenders are measured."""

    threads: tuple[int, ...]
    rounds: int
    picture: Path
    size_wh: tuple[int, int]
    scale: str
    data: DataSet | None


@dataclass
class _Row:
    """A contender on its way through a comparison."""

    named: Named
    opened: dict[str, Any]
    timings: list[Timing]
    metrics: tuple[Metric, ...] = ()


def compare_detectors(contenders: Sequence[Named], plan: Plan) -> tuple[Comparison, list[Loss]]:
    """Figures of each contender; those that can't be opened or run are left out, and told.

    Raises FacekitError where none is left.
    """
    assert contenders and plan.threads
    rows: dict[str, _Row] = {}
    losses: dict[str, Loss] = {}
    unread, words = list[Loss](), ""
    for place, threads in enumerate(plan.threads):
        with ExitStack() as stack:
            running = _start(contenders, threads, plan, rows, losses, stack)
            _time(running, plan, rows, losses)
            if place == 0 and plan.data is not None:
                unread, words = _find(running, plan.data, rows, losses)
    kept = [row for name, row in rows.items() if name not in losses]
    if not kept:
        raise FacekitError(f"{next(iter(losses.values()))} Nothing is left to compare.")
    found = environment()
    comparison = Comparison(
        rows=tuple(_measured(row) for row in kept),
        picture=f"{plan.picture.name}, {plan.size_wh[0]}x{plan.size_wh[1]}",
        rounds=plan.rounds * TIMES_A_TURN,
        data=words,
        measured_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=describe(found),
        versions=versions(found),
    )
    truth = None if plan.data is None else plan.data.wider
    return comparison, [*losses.values(), *unread, *(truth.losses() if truth is not None else [])]


def _start(
    contenders: Sequence[Named], threads: int, plan: Plan, rows: dict[str, _Row], losses: dict[str, Loss],
    stack: ExitStack,
) -> list[Contender]:  # fmt: skip
    """Their processes, one started after the other, so that none delays another's cold start."""
    running = []
    for named in progress_bar(contenders, delay_s=2, desc=f"opening, {threads} thread(s)", unit="detector"):
        if named.name in losses:
            continue
        contender = stack.enter_context(Contender(named, threads))
        try:
            opened = contender.open(plan.picture, plan.size_wh, plan.scale)
        except FacekitError as error:
            losses[named.name] = Loss.of(named.name, error)
            continue
        rows.setdefault(named.name, _Row(named, opened, []))
        rows[named.name].opened["cold_start_s"] = opened["cold_start_s"]
        running.append(contender)
    return running


def _time(running: list[Contender], plan: Plan, rows: dict[str, _Row], losses: dict[str, Loss]) -> None:
    seconds: dict[str, list[float]] = {contender.named.name: [] for contender in running}
    rounds = WARM_UP_ROUNDS + plan.rounds
    for turn in progress_bar(range(rounds), delay_s=2, desc="timing", unit="round"):
        for contender in running if turn % 2 else running[::-1]:
            name = contender.named.name
            if name in losses:
                continue
            try:
                answer = contender.ask("time", times=TIMES_A_TURN)
            except FacekitError as error:
                losses[name] = Loss.of(name, error)
                continue
            if turn >= WARM_UP_ROUNDS:
                seconds[name] += answer["seconds"]
    for contender in running:
        name = contender.named.name
        if name in losses:
            continue
        peak = contender.ask("memory")["peak_bytes"]
        times_ms = 1e3 * np.array(seconds[name])
        rows[name].timings.append(
            Timing(
                threads=contender.threads,
                cold_start_s=rows[name].opened["cold_start_s"],
                latency_p50_ms=float(np.percentile(times_ms, 50)),
                latency_p95_ms=float(np.percentile(times_ms, 95)),
                pictures_per_s=1e3 * len(times_ms) / float(times_ms.sum()),
                peak_memory_mib=None if peak is None else peak / 2**20,
            )
        )


def _find(
    running: list[Contender], data: DataSet, rows: dict[str, _Row], losses: dict[str, Loss]
) -> tuple[list[Loss], str]:
    """Measures accuracy; returns the pictures that can't be read, without which there is no AP of WIDER, and what the
    AP is of, in words."""
    unread: dict[str, Loss] = {}
    words = ""
    contenders = [contender for contender in running if contender.named.name not in losses]
    total = len(contenders) * len(data.pictures)
    with progress_bar(delay_s=2, desc="finding faces", unit="picture", total=total) as bar:
        for contender in contenders:
            bar.set_postfix_str(contender.named.name)
            try:
                found, lost = _found(contender, data.pictures, bar)
                unread |= {loss.what: loss for loss in lost}
                if data.wider is not None and lost:
                    continue
                rows[contender.named.name].metrics = _metrics(found, data)
            except FacekitError as error:
                losses[contender.named.name] = Loss.of(contender.named.name, error)
                continue
            words = _words(found, data)
    told = list(unread.values())
    if data.wider is not None and told:
        told.append(Loss("AP", "WIDER FACE's official protocol is of all pictures, some of which can't be read"))
    return told, words


def _found(contender: Contender, pictures: Sequence[PictureLabels], bar: Any) -> tuple[Found, list[Loss]]:
    found = Found([], [], [])
    kept: list[PictureLabels] = []
    for first in range(0, len(pictures), PICTURES_A_TURN):
        part = pictures[first : first + PICTURES_A_TURN]
        asked = [(str(picture.path), picture.size_wh) for picture in part]
        for picture, answer in zip(part, contender.ask("detect", pictures=asked)["pictures"], strict=True):
            if "lost" in answer:
                found.losses.append(Loss.of(picture.path, FacekitError(answer["lost"])))
                continue
            faces = np.array(answer["faces"], dtype=np.float32).reshape(-1, 5)
            kept.append(picture)
            found.found.append(Detections(faces[:, :4], faces[:, 4]))
            found.seconds.append(answer["seconds"])
        bar.update(len(part))
    if not kept:
        raise FacekitError(f"{found.losses[0]} None of the {len(pictures)} pictures can be read.")
    return Found(kept, found.found, found.seconds, found.losses), found.losses


def _words(found: Found, data: DataSet) -> str:
    if data.wider is not None:
        return f"WIDER FACE's official protocol, {len(found.pictures)} validation pictures"
    return f"COCO's, {set_words('labelled', found.pictures, data.files, len(found.losses))}"


def _metrics(found: Found, data: DataSet) -> tuple[Metric, ...]:
    if data.wider is None:
        return coco_metric(found), large_faces_metric(found)
    return tuple(wider_metrics(wider_curves(wider_predictions(found), data.wider)))


def _measured(row: _Row) -> Measured:
    height, width = row.opened["fed_hw"]
    counted = _complexity(row.named, row.opened["detector"], (height, width))
    return Measured(
        name=row.named.name,
        detector=row.opened["detector"],
        runtime=row.named.backend,
        protocol=row.opened["protocol"],
        files=_sizes(row.named.weights),
        parameters=None if counted is None else counted.parameters,
        macs=None if counted is None else counted.macs,
        fed_wh=(width, height),
        timings=tuple(row.timings),
        metrics=row.metrics,
    )


def _sizes(weights: Path) -> dict[str, int]:
    """Bytes of each file that the weights consist of, those that an .onnx keeps its values in too."""
    paths = [path for path in files_of(weights) if path.is_file()]
    if weights.suffix.lower() == ".onnx":
        paths += sorted(check_onnx_file(weights).external_files)
    return {path.name: path.stat().st_size for path in paths}


def _complexity(named: Named, detector: str, size_hw: tuple[int, int]) -> Complexity | None:
    """Of the template's network where the detector is one of facekit's, else of the file; None where neither can be
    counted here."""
    is_template = detector in known_templates() and detector not in LAYOUTS
    if (is_template or named.template) and find_spec("torch") is not None:
        from facekit.models import build_model
        from facekit.ops.complexity import count_macs, count_parameters

        network = build_model(load_template(find_template(named.template or detector)))
        return Complexity(count_parameters(network), count_macs(network, size_hw))
    if named.weights.suffix.lower() not in GRAPH_SUFFIXES or find_spec("openvino") is None:
        return None
    try:
        return file_complexity(named.weights, size_hw)
    except FacekitError as error:
        log.warning("%s: parameters and MACs are left out: %s", named.name, error)
        return None
