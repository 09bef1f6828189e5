"""WIDER FACE's text, or RetinaFace's, to COCO json (the same as `facekit data convert TEXT JSON --to coco`).

python tools/wider_to_coco.py wider_face_train_bbx_gt.txt WIDER_train/images train.json [--drop-invalid ...]
The data root is the folder of pictures. Landmarks are taken wherever the text has them: --with_landmarks is accepted
and changes nothing.
"""

import sys

import click

from facekit.cli import main


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("input_annotation")
@click.argument("images_dir")
@click.argument("output_annotation")
@click.option("--with_landmarks", is_flag=True, help="Accepted; landmarks are recognised.")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def convert(
    input_annotation: str, images_dir: str, output_annotation: str, with_landmarks: bool, flags: tuple[str, ...]
) -> None:
    """Write INPUT_ANNOTATION as COCO json; FLAGS are those of `facekit data convert`."""
    command = ["data", "convert", input_annotation, output_annotation, "--to", "coco", "--data-root", images_dir]
    main([*command, *flags], prog_name="wider_to_coco.py")


if __name__ == "__main__":
    convert(sys.argv[1:])
