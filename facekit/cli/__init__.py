"""The command line: parse, call, print, word errors. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import io
import logging
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from facekit import __version__
from facekit.cli.data import data
from facekit.cli.evaluation import eval_predictions, evaluate, report
from facekit.cli.options import EXIT_ERROR, EXIT_USAGE, Group, as_flags, flags_of
from facekit.cli.training import compress, flops, plot, priors, reproduce, train
from facekit.cli.visualize import visualize
from facekit.cli.weights import export, import_weights, instantiate, templates
from facekit.errors import ArgumentError, FacekitError, Interrupted, masked
from facekit.extras import explain_import_error


class _Screen(logging.Handler):
    """Log lines that don't tear a progress bar."""

    def __init__(self, flags: dict[str, str]) -> None:
        super().__init__()
        self.flags = flags

    def emit(self, record: logging.LogRecord) -> None:
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        text = prefix + as_flags(masked(record.getMessage()), self.flags)
        if "tqdm" not in sys.modules:  # no bar was ever shown
            click.echo(text, err=True)
            return
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of pictures may be no UTF-8
    logger = logging.getLogger("facekit")
    flags = flags_of(command)
    logger.handlers = [_Screen(flags)]
    logger.setLevel(logging.INFO)
    arguments = sys.argv[1:] if args is None else args
    try:
        command.main(args=arguments, prog_name=prog_name, default_map=default_map, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Interrupted as stop:
        click.echo(as_flags(str(stop), flags), err=True)
        sys.exit(stop.exit_code)
    except FacekitError as error:
        if arguments[:1] == ["--debug"]:
            traceback.print_exc()
        click.echo(f"Error: {as_flags(str(error), flags)}", err=True)
        sys.exit(EXIT_USAGE if isinstance(error, ArgumentError) else EXIT_ERROR)
    except ImportError as error:
        explained = explain_import_error(error)
        if explained is None:
            raise
        click.echo(f"Error: {explained}", err=True)
        sys.exit(EXIT_ERROR)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    sys.exit(0)


def run_in_work_dir(command: str, work_dir: Path) -> None:
    """What a work dir's scripts call: the command with the work dir's template, snapshot and output folders."""
    defaults: dict[str, Any] = {"template": str(work_dir / "template.yaml")}
    defaults["save_checkpoints_to"] = str(work_dir / ("compressed" if command == "compress" else "outputs"))
    defaults["save_model_to"] = str(work_dir / "export")
    main([command, *sys.argv[1:]], prog_name="python", default_map={command: defaults})


EPILOG = """Exit codes: 0 all done; 1 an error, which one line names; 2 wrong arguments; 3 done, but something was left
out, which the last lines name; 130 and 143 stopped by Ctrl-C and SIGTERM. All commands are functions of Python, too:
facekit.train(...)."""


@click.group(
    cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EPILOG
)
@click.version_option(__version__, prog_name="facekit")
@click.option("--debug", is_flag=True, help="Show where in the code an error came from.")
def cli(debug: bool) -> None:
    """facekit: face detectors from template to deployment."""


COMMANDS = (
    templates, instantiate, import_weights, train, reproduce, plot, priors, flops, evaluate, eval_predictions, report,
    export, compress, visualize, data,
)  # fmt: skip
for command in COMMANDS:
    cli.add_command(command)
