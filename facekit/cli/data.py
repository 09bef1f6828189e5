"""The commands on data sets: `facekit data ...`, `facekit priors`. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from facekit.cli.mark import mark_data
from facekit.cli.options import FILE

FORMATS_WRITTEN = ("coco", "labelv2", "wider", "voc", "voc-wider", "yolo", "yolo-face")  # of datasets.formats
F = Callable[..., Any]


@click.group()
def data() -> None:
    """Data sets and labels: download, browse, check, convert, merge."""


@data.command("download")
@click.argument("name", type=click.Choice(("widerface", "fddb")))
@click.argument("destination", type=FILE)
@click.option("--landmarks", type=FILE, help="labelv2 or other labels of the training pictures, with landmarks.")
@click.option("--with-test", is_flag=True, help="WIDER_test too, which has no labels.")
@click.option("--val-only", is_flag=True, help="Leave WIDER_train out: enough to measure.")
@click.option("--remove-archives", is_flag=True, help="Take each archive away once it is unpacked.")
def download_data(
    name: str, destination: Path, landmarks: Path | None, with_test: bool, val_only: bool, remove_archives: bool
) -> None:
    """Bring a published data set: pictures and labels, checked, unpacked, ready for train and eval."""
    from facekit.datasets import arrange, catalogue, obtain

    if name != "widerface" and (landmarks or with_test or val_only):
        raise click.UsageError("--landmarks, --with-test and --val-only are for widerface.")
    if val_only and landmarks:
        raise click.UsageError("--landmarks is for the training pictures, which --val-only leaves out.")
    if landmarks:
        arrange.check_landmarks(landmarks)
    left_out = [part for part, out in (("train", val_only), ("test", not with_test)) if out]
    plan = obtain.plan_download(catalogue.DATA_SETS[name], destination, left_out)
    click.echo(plan.text())
    obtain.obtain(plan, remove_archives)
    parts = [part for part in arrange.WIDER_PARTS if part not in left_out]
    done = arrange.arrange_fddb(destination) if name == "fddb" else arrange.arrange_widerface(
        destination, parts, landmarks)  # fmt: skip
    click.echo(done)


@data.command("check")
@click.argument("labels", type=FILE)
@click.option("--data-root", type=FILE, help="Folder above the pictures [where the format has it].")
@click.option("--against", type=FILE, help="Labels of a set that must share no picture with this one.")
@click.option("--against-root", type=FILE, help="Folder above that set's pictures [the same].")
@click.option("--fix", type=FILE, metavar="DST", help="COCO json to write: the labels without what is wrong in them.")
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Every finding, for programs.")
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Processes that read data.")
def check_data(
    labels: Path, data_root: Path | None, against: Path | None, against_root: Path | None, fix: Path | None,
    json_file: Path | None, strict: bool, workers: int,
) -> None:  # fmt: skip
    """Look for defects in labels and pictures; exits with 1 where there are errors."""
    from facekit.datasets.check import check
    from facekit.datasets.check_report import format_report, write_json
    from facekit.datasets.clean import check_destinations, clean, write_cleaned
    from facekit.labels.formats import read_labels

    check_destinations(fix, json_file, [labels, against])
    pictures = read_labels(labels, data_root, as_written=True)
    others = read_labels(against, against_root, as_written=True) if against else []
    checked = check(pictures, others, workers)
    click.echo(format_report(checked))
    if json_file:
        write_json(checked, json_file)
    if fix:
        cleaned = clean(checked)
        root = write_cleaned(cleaned, fix)
        click.echo("\n".join(["", *cleaned.lines(), f"Done: {fix}, for the data root {root}"]))
    if checked.has("error") or (strict and checked.has("warning")):
        sys.exit(1)


@data.command("browse")
@click.argument("labels", type=FILE)
@click.option("--data-root", type=FILE, help="Folder above the pictures [where the format has it].")
@click.option("--output", type=FILE, required=True, help="The page to write.")
@click.option("--augment", metavar="TEMPLATE", help="Show what training this template makes of the pictures.")
@click.option("--limit", type=click.IntRange(min=1), default=200, show_default=True, help="Pictures on the page.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the augmentation, as train's."
)
def browse_data(
    labels: Path, data_root: Path | None, output: Path, augment: str | None, limit: int, seed: int
) -> None:  # fmt: skip
    """Make a page of LABELS, of any format: pictures with boxes and landmarks, counts, augmentation."""
    from facekit.files import write_text
    from facekit.labels.formats import read_labels
    from facekit.pages.browse import Augmentation, browse_page
    from facekit.template import find_template, load_template

    augmentation = Augmentation(load_template(find_template(augment)), seed) if augment else None
    pictures = read_labels(labels, data_root, as_written=True)
    write_text(output, browse_page(labels.name, pictures, limit, augmentation))
    click.echo(f"Done: {output}, {output.stat().st_size / 1e6:.1f} MB")


def _convert_options(function: F) -> F:
    options = (
        click.option("--to", "format_name", type=click.Choice(FORMATS_WRITTEN), required=True, help="Format to write."),
        click.option("--min-size", type=click.FloatRange(min=0), default=0, help="Leave out faces smaller, pixels."),
        click.option("--drop-invalid", is_flag=True, help="Leave out faces that WIDER's attributes call invalid."),
        click.option("--subset", type=FILE, help="Text file with the pictures to keep, a name a line."),
        click.option("--split", metavar="A:B[:C]", help="Shares of train, val and test, such as 0.9:0.1."),
        click.option("--seed", type=int, default=0, show_default=True, help="Of the split."),
        click.option("--pictures", type=click.Choice(("none", "copy", "link")),
                     help="What to do with them [copy into yolo, yolo-face, voc, voc-wider; else none]."),
        click.option("--force", is_flag=True, help="Write over a file, or into a folder that holds something else."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def _convert(
    sources: list[tuple[Path, Path | None]], format_name: str, destination: Path, flags: dict[str, Any]
) -> None:
    from facekit.datasets.convert import ConvertOptions, convert, parse_split

    try:
        flags["split"] = parse_split(flags["split"]) if flags["split"] else ()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--split") from error
    click.echo(convert({"train": sources}, format_name, destination, ConvertOptions(**flags)).table())


@data.command("convert")
@click.argument("labels", type=FILE)
@click.argument("destination", type=FILE)
@click.option("--data-root", type=FILE, help="Folder above the pictures [where the format has it].")
@_convert_options
def convert_data(labels: Path, destination: Path, data_root: Path | None, format_name: str, **flags: Any) -> None:
    """Write LABELS, of any format, in another one."""
    _convert([(labels, data_root)], format_name, destination, flags)


@data.command("merge")
@click.argument("labels", nargs=-1, required=True, type=FILE)
@click.argument("destination", type=FILE)
@click.option("--data-roots", help="Comma-separated folders above their pictures [where the formats have them].")
@_convert_options
def merge_data(
    labels: tuple[Path, ...], destination: Path, data_roots: str | None, format_name: str, **flags: Any
) -> None:
    """Write several LABELS, of any formats, as one set; pictures are named from the folder above all of them."""
    roots: list[Path | None] = [Path(root) for root in data_roots.split(",")] if data_roots else [None] * len(labels)
    if len(roots) != len(labels):
        raise click.UsageError(f"{len(labels)} labels and --data-roots with {len(roots)} folders: one a set.")
    _convert(list(zip(labels, roots, strict=True)), format_name, destination, flags)


data.add_command(mark_data)


@click.command()
@click.argument("labels", type=FILE)
@click.option("--template", required=True, help="Template name, template.yaml or work dir.")
@click.option("--data-root", type=FILE, help="Folder above the pictures [where the format has it].")
@click.option("--output", type=FILE, help="template.yaml to write: the template with the new priors.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def priors(labels: Path, template: str, data_root: Path | None, output: Path | None, seed: int) -> None:
    """Choose prior sizes for a data set by clustering its faces; prints recall before and after."""
    from facekit.commands.priors import choose_priors, write_template
    from facekit.labels.formats import read_labels
    from facekit.template import find_template, load_template

    source = find_template(template)
    choice = choose_priors(load_template(source), read_labels(labels, data_root), seed)
    click.echo(choice.text())
    if output is not None:
        write_template(source, choice.sizes_wh, output)
        click.echo(f"\nDone: {output}, without snapshot and metrics: weights of the old priors don't fit it.")
