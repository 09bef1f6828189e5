"""The command line: parse, call, print, word errors. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from facekit import __version__
from facekit.base.extras import explain_import_error
from facekit.cli.options import EXIT_ERROR, EXIT_USAGE, Group, LazyCommands, as_flags
from facekit.errors import ArgumentError, FacekitError, Interrupted, masked, printable


class _Screen(logging.Handler):
    """Log lines that don't tear a progress bar."""

    def __init__(self, command: click.Command) -> None:
        super().__init__()
        self.command = command

    def emit(self, record: logging.LogRecord) -> None:
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        text = prefix + _on_screen(masked(record.getMessage()), self.command)
        if "tqdm" not in sys.modules:  # no bar was ever shown
            click.echo(text, err=True)
            return
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)


def _on_screen(message: str, command: click.Command) -> str:
    """With the command's flags, and nothing of a file's name that a terminal would obey."""
    return printable(as_flags(message, command), kept="\n\t")


def main(
    args: list[str] | None = None, prog_name: str | None = None, default_map: dict[str, Any] | None = None
) -> None:
    """Runs a command line of facekit's and exits."""
    run_command(cli, args, prog_name, default_map)


def run_command(
    command: click.Command,
    args: list[str] | None = None,
    prog_name: str | None = None,
    default_map: dict[str, Any] | None = None,
) -> None:
    """Runs it and exits; a user's mistake is a message and exit code 1, never a traceback."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of pictures may be no UTF-8
    logger = logging.getLogger("facekit")
    logger.handlers = [_Screen(command)]
    logger.setLevel(logging.INFO)
    arguments = sys.argv[1:] if args is None else args
    is_debugged = "--debug" in arguments
    try:
        command.main(args=arguments, prog_name=prog_name, default_map=default_map, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Interrupted as stop:
        click.echo(as_flags(str(stop), command), err=True)
        sys.exit(stop.exit_code)
    except FacekitError as error:
        if is_debugged:
            traceback.print_exc()
        click.echo(f"Error: {_on_screen(str(error), command)}", err=True)
        sys.exit(EXIT_USAGE if isinstance(error, ArgumentError) else EXIT_ERROR)
    except ImportError as error:
        explained = explain_import_error(error)
        if explained is None:
            raise
        if is_debugged:
            traceback.print_exc()
        click.echo(f"Error: {explained}", err=True)
        sys.exit(EXIT_ERROR)
    except OSError as error:
        if not _is_of_standard_output(error):
            raise
        if is_debugged:
            traceback.print_exc()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what waits in it would fail once more
        click.echo(f"Error: standard output: {error.strerror}. Send it to a place with space, or a file.", err=True)
        sys.exit(EXIT_ERROR)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    sys.exit(0)


def _open_standard_streams() -> None:
    """To nowhere, where they are closed, as daemons' are: a file that is opened next would take one's number, and what
    libraries print."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
        if getattr(sys, name) is None:  # not open(number), which may be another's file by now
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if number else "r", encoding="utf-8"))


def _is_of_standard_output(error: OSError) -> bool:
    """Whether it came up in printing, which is done here and by click alone; a file's has the file's name, or comes
    from further within."""
    place = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return error.filename is None and place.parent in (Path(click.__file__).parent, Path(__file__).parent)


def run_in_work_dir(command: str, work_dir: Path) -> None:
    """What a work dir's scripts call: the command with the work dir's template, snapshot and output folders."""
    defaults: dict[str, Any] = {"template": str(work_dir / "template.yaml")}
    defaults["save_checkpoints_to"] = str(work_dir / ("compressed" if command == "compress" else "outputs"))
    defaults["save_model_to"] = str(work_dir / "export")
    main([command, *sys.argv[1:]], prog_name="python", default_map={command: defaults})


# Name -> where it is, and its short help: --help imports none of them. A test holds them to the commands' own words.
COMMANDS = {
    "anonymize": (
        "facekit.cli.anonymize:anonymize",
        "Cover the faces of INPUTS (pictures, folders, globs, videos): blurred, pixelated or solid; sound is kept.",
    ),
    "benchmark": (
        "facekit.cli.comparing:benchmark",
        "Time one detector: cold start, latency, pictures a second, memory, size of all its files.",
    ),
    "compare": (
        "facekit.cli.comparing:compare",
        "Lay detectors beside each other: AP, size, speed, memory; ours, others' and cv2.FaceDetectorYN.",
    ),
    "compress": (
        "facekit.cli.training:compress",
        "Compress to INT8, sparse, or both; prints size and AP before and after.",
    ),
    "data": (
        "facekit.cli.data:data",
        "Data sets and labels: download, browse, check, convert, merge, mark.",
    ),
    "detect": (
        "facekit.cli.detect:detect",
        "Find faces in INPUTS (files, folders, globs, addresses): as JSON, CSV, COCO, YOLO, Parquet, drawings, crops.",
    ),
    "doctor": (
        "facekit.cli.looking:doctor",
        "Say what facekit finds on this machine: processor, GPU, packages, cache; what is missing and what brings it.",
    ),
    "eval": (
        "facekit.cli.evaluation:evaluate",
        "Measure weights: COCO AP and AP over 64 px on labelled pictures, WIDER FACE easy/medium/hard.",
    ),
    "eval-predictions": (
        "facekit.cli.evaluation:eval_predictions",
        "Score WIDER result files (a folder of EVENT/NAME.txt, or an .npz) of anybody's detector.",
    ),
    "export": (
        "facekit.cli.weights:export",
        "Export to ONNX, OpenVINO and other formats, each compared with PyTorch before it is kept.",
    ),
    "flops": (
        "facekit.cli.training:flops",
        "Count parameters and FLOPs of a template's network: a name, template.yaml or work dir.",
    ),
    "import-weights": (
        "facekit.cli.weights:import_weights",
        "Turn weights of any kind into a snapshot.",
    ),
    "instantiate": ("facekit.cli.weights:instantiate", "Make a work dir of a template: its scripts and its snapshot."),
    "plot": (
        "facekit.cli.training:plot",
        "Draw the course of trainings: folders of checkpoints, or their log.jsonl.",
    ),
    "priors": (
        "facekit.cli.training:priors",
        "Choose prior sizes for a data set by clustering its faces; prints recall before and after.",
    ),
    "quantize": (
        "facekit.cli.training:quantize",
        "Round an exported .onnx, .xml or .tflite to INT8 without training; prints size, speed and AP of both.",
    ),
    "report": (
        "facekit.cli.evaluation:report",
        "Lay the REPORTS that evaluations wrote beside each other on one page.",
    ),
    "reproduce": (
        "facekit.cli.training:reproduce",
        "Run a training again by its run.json, and compare the weights; flags say where data lie that have moved.",
    ),
    "serve": (
        "facekit.cli.serve:serve",
        "Answer pictures with their faces over HTTP: POST /detect; /docs tells how.",
    ),
    "templates": (
        "facekit.cli.looking:templates",
        "List the templates, or those of WORDS: AP as measured, parameters, operations, size, speed.",
    ),
    "train": ("facekit.cli.training:train", "Train or fine-tune a detector."),
    "visualize": (
        "facekit.cli.visualize:visualize",
        "Draw boxes, scores and landmarks on PICTURES (files, folders, globs) or a video.",
    ),
}
EPILOG = """Exit codes: 0 all done; 1 an error, which one line names; 2 wrong arguments; 3 done, but something was left
out, which the last lines name; 129, 130 and 143 stopped by a closed terminal, Ctrl-C and SIGTERM. --debug, anywhere,
shows where in the code an error came from. All commands are functions of Python, too: facekit.train(...)."""


@click.group(
    cls=Group, commands=LazyCommands(COMMANDS), epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)  # fmt: skip
@click.version_option(__version__, prog_name="facekit")
@click.option("--debug", is_flag=True, help="Show where in the code an error came from.")
def cli(debug: bool) -> None:
    """facekit: face detectors from template to deployment."""
