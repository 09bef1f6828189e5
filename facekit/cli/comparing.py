"""facekit benchmark, compare."""

from __future__ import annotations

from typing import Any

import click

from facekit.cli.options import finish, options_of
from facekit.commands import benchmark as benchmark_command
from facekit.commands import compare as compare_command


@click.command()
@options_of(benchmark_command.BenchmarkOptions)
def benchmark(**flags: Any) -> None:
    """Time one detector: cold start, latency, pictures a second, memory, size of all its files."""
    done = benchmark_command.benchmark(**flags)
    click.echo(done.text())
    finish(done.losses)


@click.command()
@options_of(compare_command.CompareOptions)
def compare(**flags: Any) -> None:
    """Lay detectors beside each other: AP, size, speed, memory; ours, others' and cv2.FaceDetectorYN.

    MODELS are [TEMPLATE=]FILE[@RUNTIME], such as yunet.onnx@facedetectoryn or scrfd-0.5g=peer.onnx.
    """
    done = compare_command.compare(**flags)
    click.echo(done.text())
    finish(done.losses)
