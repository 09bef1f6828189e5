"""Prints metrics.yaml files side by side, a row each: python tools/metrics_table.py FILE..."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

KEYS = {"ap": "AP %", "ap_64x64": "AP>64 %", "widerface_e": "easy", "widerface_m": "medium", "widerface_h": "hard"}


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(files: tuple[Path, ...]) -> None:
    """Print the metrics of FILES."""
    protocols = []
    rows = []
    for file in files:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            values = {metric["key"]: metric["value"] for metric in content["metrics"]}
            size_kib = sum(part["size"] for part in content["files"] if not part["name"].endswith(".xml")) / 1024
            protocols.append(f"{file.stem}: {content['protocol']}")
        except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise click.ClickException(f"{file}: no metrics.yaml of facekit's ({error!r}). Give such files.") from error
        rows.append((file.stem, values, size_kib))
    keys = [key for key in KEYS if any(key in values for _, values, _ in rows)]
    width = max(len(name) for name, _, _ in rows)
    click.echo(" " * width + "".join(f"{KEYS[key]:>10}" for key in keys) + f"{'weights KiB':>13}")
    for name, values, size_kib in rows:
        cells = ("-" if values.get(key) is None else f"{values[key]:.3f}" for key in keys)
        click.echo(f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells) + f"{size_kib:>13.1f}")
    click.echo("protocol: " + "; ".join(protocols) if len(set(protocols)) == 1 else "\n".join(protocols))


if __name__ == "__main__":
    main()
