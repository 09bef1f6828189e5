"""Measures what facekit claims, on the shared pictures and weights: python tools/verify_parity.py [--work DIR]

For each template whose weights lie there: a work dir with imported weights, and its eval.py on the 566 WIDER FACE
pictures for .pth, .onnx and .bin against truth.md (bar: 0.3 points); every reference box over score 0.3 (bar: IoU over
0.98, score within 0.005); the evaluator on two complete published prediction sets (bar: 1e-4, 5 s). Counted apart are
reference boxes of a face whose priors have the very same score, mostly 1.0, where the reference kept another of them:
it sorted in no fixed order. Needs the folder FACEKIT_SHARED or ../shared.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import yaml

PROJECT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("FACEKIT_SHARED", PROJECT.parent / "shared"))
WIDER = SHARED / "data" / "widerface"
SUBSET = WIDER / "ground_truth_subset"


class Case(NamedTuple):
    """A template with the weights that were published for it, at one scale of its evaluation."""

    template: str
    weights: str
    reference: str | None  # detections
    row: str | None  # how its row in truth.md starts; None: no figures to compare with
    scale: str = "template"

    @property
    def name(self) -> str:
        return self.template if self.scale == "template" else f"{self.template} {self.scale}"


P3 = "retinaface-mobilenetv1-0.25-p3"
OPENVINO = ("face-detection-0200", "face-detection-0202", "face-detection-0204", "face-detection-0205")
CASES = (
    *(Case(name, f"openvino/{name}.xml", f"ir{name[-4:]}", f"{name} |") for name in OPENVINO),
    Case("tiny-ssd-300", "openvino/face-detection-retail-0005.xml", "ir0005", "tiny-ssd-300 |"),
    Case("yunet-n", "yunet/yunet_n.pth", "yunet-n-orig", "yunet-n | published dynamic ONNX; own size"),
    Case("yunet-n", "yunet/yunet_n.pth", "yunet-n-640", "yunet-n | same; longest side 640", "max:640"),
    Case("yunet-s", "yunet/yunet_s.pth", "yunet-s-orig", "yunet-s | as yunet-n, own size"),
    Case("yunet-s", "yunet/yunet_s.pth", "yunet-s-640", "yunet-s | as yunet-n, longest side 640", "max:640"),
    *(
        Case(f"ultralight-{kind}-{side}", f"ultralight/version-{theirs}-{side}.pth", f"ultra-{theirs}-{side}", row)
        for kind, theirs in (("slim", "slim"), ("rfb", "RFB"))
        for side in (320, 640)
        for row in (f"ultralight-{kind}-{side} |",)
    ),
    Case(P3, "retinaface/mobilenet0.25_p3.pth", "retina-B", f"{P3} |"),
    # The tests compare it with its published file, number by number.
    Case("scrfd-0.5g", "peers/scrfd_500m_kps.onnx", None, None),
)
MEASURED = PROJECT / "model_templates" / "face-detection" / "measured.yaml"
HEAD = "# Written by tools/verify_parity.py --record: easy, medium, hard in per cent, and the protocol of each.\n"
TIE = 1e-7  # scores that float32 tells apart by no more than one step
PUBLISHED_SETS = {
    "yolov7-face": (0.9324932633835993, 0.9127942909886333, 0.8297205022059916),
    "retinaface-jit": (0.9448373912694071, 0.9244706568389409, 0.8153250447873874),
}


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=Path("/tmp/facekit-parity"), show_default=True)
@click.option("--templates", help="Only these, comma-separated.")
@click.option("--kinds", default="pth,onnx,bin", show_default=True)
@click.option(
    "--record", is_flag=True, help="Put the figures into measured.yaml of model_templates, for tools/zoo_table.py."
)
def main(work: Path, templates: str | None, kinds: str, record: bool) -> None:
    """Print every figure beside its bar; exit code 1 where one is missed."""
    good = check_evaluator()
    measured: dict[str, list[dict[str, object]]] = {}
    for case in CASES:
        if templates and case.template not in templates.split(","):
            continue
        folder = work / case.template
        exported = folder / "export"
        if case.template not in measured:
            run("tools/instantiate_template.py", case.template, folder, "--snapshot", SHARED / "weights" / case.weights)
            if kinds != "pth":
                run(folder / "export.py")
        files = {"pth": folder / "snapshot.pth", "onnx": exported / "model.onnx", "bin": exported / "model.bin"}
        for kind in kinds.split(","):
            figures, is_good = check_wider(case, folder, kind, files[kind])
            good &= is_good
            measured.setdefault(case.template, []).append(figures)
        if case.reference is not None:
            good &= check_boxes(case.name, folder / "output" / "wider_predictions", case.reference)
    if record:
        known = yaml.safe_load(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {}
        merged = dict(sorted((known | measured).items()))
        MEASURED.write_text(HEAD + yaml.safe_dump(merged, sort_keys=False, width=200), encoding="utf-8")
        click.echo(f"figures written to {MEASURED}")
    click.echo("all bars met" if good else "SOME BARS MISSED")
    sys.exit(not good)


def run(*command: object) -> None:
    subprocess.run([sys.executable, *map(str, command)], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)


def truth(row: str) -> list[float]:
    """Easy, medium, hard from truth.md."""
    line = next(line for line in (WIDER / "truth.md").read_text().splitlines() if line.startswith(f"| {row}"))
    return [float(cell) for cell in re.findall(r"\| (\d+\.\d+) (?=\|)", line)]


def check_wider(case: Case, folder: Path, kind: str, weights: Path) -> tuple[dict[str, object], bool]:
    metrics_file = folder / f"metrics-{kind}-{case.scale.replace(':', '')}.yaml"
    started = time.perf_counter()
    run(
        folder / "eval.py", "--load-weights", weights, "--wider-dir", WIDER, "--wider-gt", SUBSET,
        "--scale", case.scale, "--save-metrics-to", metrics_file, "--save-output-to", folder / "output",
        "--threshold", "0.3",
    )  # fmt: skip
    content = yaml.safe_load(metrics_file.read_text())
    values = {m["key"]: m["value"] for m in content["metrics"]}
    got = [values[f"widerface_{subset}"] for subset in "emh"]
    figures: dict[str, object] = {"weights": case.weights, "kind": kind, "easy": got[0], "medium": got[1]}
    figures |= {"hard": got[2], "protocol": content["protocol"]}
    if case.row is None:
        click.echo(
            f"{case.name:<30} {kind:<5} easy/medium/hard {got[0]:.2f} {got[1]:.2f} {got[2]:.2f}  no truth at hand"
        )
        return figures, True
    expected = truth(case.row)
    worst = max(abs(a - b) for a, b in zip(got, expected, strict=True))
    click.echo(
        f"{case.name:<30} {kind:<5} easy/medium/hard {got[0]:.2f} {got[1]:.2f} {got[2]:.2f}  truth "
        f"{expected[0]:.2f} {expected[1]:.2f} {expected[2]:.2f}  off by {worst:.2f} (bar 0.3)  "
        f"{time.perf_counter() - started:.0f} s"
    )
    return figures, worst <= 0.3


def check_boxes(name: str, predictions_dir: Path, reference: str) -> bool:
    """Every reference box over score 0.3 against the predictions of the last kind that was measured."""
    from facekit.results.wider import read_predictions

    ours = read_predictions(predictions_dir)
    theirs = read_predictions(WIDER / "reference_detections" / f"{reference}.npz")
    total = missed = tied = 0
    worst_iou, worst_score = 1.0, 0.0
    for picture, boxes in theirs.items():
        for box in boxes[boxes[:, 4] > 0.3]:
            ious = iou_xywh(ours[picture], box)
            best = int(ious.argmax()) if len(ious) else -1
            iou = float(ious[best]) if len(ious) else 0.0
            difference = abs(float(ours[picture][best, 4] - box[4])) if len(ious) else 1.0
            total += 1
            if 0.5 < iou <= 0.98 and difference < TIE:
                tied += 1
                continue
            missed += not (iou > 0.98 and difference <= 0.005)
            worst_iou, worst_score = min(worst_iou, iou), max(worst_score, difference)
    click.echo(
        f"{name:<30} boxes {total} reference boxes over 0.3, {missed} unmatched, {tied} of tied priors; "
        f"worst IoU {worst_iou:.5f} (bar 0.98), worst score difference {worst_score:.6f} (bar 0.005)"
    )
    return missed == 0


def iou_xywh(boxes_xywhs: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(N, 5) against one (5,) -> (N,), without +1."""
    far = np.minimum(boxes_xywhs[:, :2] + boxes_xywhs[:, 2:4], box[:2] + box[2:4])
    shared = np.clip(far - np.maximum(boxes_xywhs[:, :2], box[:2]), 0, None).prod(axis=1)
    iou: np.ndarray = shared / (boxes_xywhs[:, 2:4].prod(axis=1) + box[2:4].prod() - shared)
    return iou


def check_evaluator() -> bool:
    from facekit.metrics.wider import read_wider_ground_truth, wider_ap
    from facekit.results.wider import read_predictions

    good = True
    ground_truth = read_wider_ground_truth(WIDER / "ground_truth")
    for name, expected in PUBLISHED_SETS.items():
        predictions = read_predictions(WIDER / "predictions" / f"{name}.npz")
        started = time.perf_counter()
        got = wider_ap(predictions, ground_truth)
        seconds = time.perf_counter() - started
        worst = max(abs(a - b) for a, b in zip(got.values(), expected, strict=True))
        click.echo(
            f"evaluator: {name:<15} {got['easy']:.6f} {got['medium']:.6f} {got['hard']:.6f}  off by {worst:.1e} "
            f"(bar 1e-4)  {seconds:.2f} s (bar 5 s)"
        )
        good &= worst <= 1e-4 and seconds < 5
    return good


if __name__ == "__main__":
    main()
