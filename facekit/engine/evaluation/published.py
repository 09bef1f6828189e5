"""Which of a template's published figures may stand beside measured ones: those of the same set and protocol."""

from __future__ import annotations

from collections.abc import Sequence

from facekit.labels.picture_labels import PictureLabels
from facekit.metrics.wider import VALIDATION_PICTURES, is_validation_set
from facekit.template import Template

OF_THE_NETWORK = ("size", "complexity")  # what no data set changes; the input's size changes the complexity


def published_figures(
    template: Template,
    protocol: str,
    labelled: Sequence[PictureLabels] | None,
    wider: Sequence[PictureLabels] | None,
) -> tuple[dict[str, float], str]:
    """The figures by their metrics' keys, and what to say of those that stand beside nothing; "" for none.

    All templates publish figures of the whole WIDER FACE validation set, measured by the template's own protocol.

    Args:
        template: as it is published, before any flag changed its protocol.
        protocol: by which was measured.
        labelled: the labelled pictures that were measured, and wider: those of the WIDER ground truth; None: none.
    """
    own_protocol = template.protocol()
    is_own_protocol = protocol == own_protocol
    measured = {"labelled": labelled, "wider": wider}
    is_whole = {name: _is_wider_validation(pictures) for name, pictures in measured.items() if pictures is not None}
    shown: dict[str, float] = {}
    is_left_out = False
    for metric in template.metrics:
        if metric.key in OF_THE_NETWORK:
            if is_own_protocol or metric.key == "size":
                shown[metric.key] = metric.value
            continue
        # Details such as ap_64x64 are those of the labelled set where both were measured.
        measured_on = "wider" if metric.key.startswith("widerface_") or labelled is None else "labelled"
        if is_own_protocol and is_whole.get(measured_on):
            shown[metric.key] = metric.value
        elif measured_on in is_whole:
            is_left_out = True
    if not is_left_out:
        return shown, ""
    other = " and ".join(["protocol"] * (not is_own_protocol) + ["set"] * (not any(is_whole.values())))
    return shown, (
        f"the figures of {template.name}'s makers are of all {VALIDATION_PICTURES} pictures of WIDER FACE's validation "
        f"set, by the protocol {own_protocol}: another {other or 'set'}, so they don't stand beside these."
    )


def _is_wider_validation(pictures: Sequence[PictureLabels]) -> bool:
    names = [f"{picture.path.parent.name}/{picture.path.stem}" for picture in pictures]
    return is_validation_set(names, sum(int((~picture.is_crowd).sum()) for picture in pictures))
