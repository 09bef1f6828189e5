"""facekit eval, eval-predictions, report."""

from __future__ import annotations

from typing import Any

import click

from facekit.cli.options import finish, options_of
from facekit.commands import eval_predictions as predictions_command
from facekit.commands import evaluate as evaluate_command
from facekit.commands import report as report_command
from facekit.engine.evaluation.options import EvaluateOptions


@click.command("eval")
@options_of(EvaluateOptions)
def evaluate(**flags: Any) -> None:
    """Measure weights: COCO AP and AP over 64 px on labelled pictures, WIDER FACE easy/medium/hard."""
    measurement = evaluate_command.evaluate(**flags)
    if measurement is not None:
        click.echo(measurement.table)
        finish(measurement.losses)


@click.command("eval-predictions")
@options_of(predictions_command.EvalPredictionsOptions)
def eval_predictions(**flags: Any) -> None:
    """Score WIDER result files (a folder of EVENT/NAME.txt, or an .npz) of anybody's detector."""
    scored = predictions_command.eval_predictions(**flags)
    click.echo(scored.text())
    finish(scored.losses)


@click.command()
@options_of(report_command.ReportOptions)
def report(**flags: Any) -> None:
    """Lay the REPORTS that evaluations wrote beside each other on one page."""
    click.echo(f"Done: {report_command.report(**flags)}")
