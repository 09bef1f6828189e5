"""RetinaFace's labels of WIDER FACE to the Pascal VOC layout of Ultra-Light, without faces under 10 pixels.

python tools/wider_face_2_voc_add_landmark.py [--outdir DIR] [--dataset DIR] [--gt_path DIR] [--min_face_size 10]
reads gt_path/{train,val}/label.txt and dataset/WIDER_{train,val}/images; writes the lists trainval.txt and test.txt.
Faces left out stay in their pictures: they aren't painted over with grey.
"""

from pathlib import Path

import click

from facekit.cli import run_command
from facekit.datasets.convert import convert
from facekit.datasets.convert_options import ConvertOptions

FOLDER = click.Path(path_type=Path)


@click.command()
@click.option("-o", "--outdir", type=FOLDER, default="wider_face_add_lm_10_10", show_default=True)
@click.option("-d", "--dataset", type=FOLDER, default="wider_face", show_default=True)
@click.option("-a", "--gt_path", "labels", type=FOLDER, default="retinaface_labels", show_default=True)
@click.option("--min_face_size", default=10.0, show_default=True, help="Pixels.")
@click.option("--force", is_flag=True, help="Write into a folder that holds something else.")
def main(outdir: Path, dataset: Path, labels: Path, min_face_size: float, force: bool) -> None:
    """Convert both sets."""
    sources = {
        part: [(labels / name / "label.txt", dataset / f"WIDER_{name}" / "images")]
        for part, name in (("trainval", "train"), ("test", "val"))
    }
    click.echo(convert(sources, "voc", outdir, ConvertOptions(min_size=min_face_size, force=force)).table())


if __name__ == "__main__":
    run_command(main)
