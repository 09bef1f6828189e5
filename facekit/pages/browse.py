"""The page of a labelled set: its pictures with boxes and landmarks, and what training makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from facekit.base.progress import progress_bar
from facekit.datasets.check_report import statistics
from facekit.errors import FacekitError, Loss, counted
from facekit.labels.picture_labels import PictureLabels, finish_reading
from facekit.labels.picture_paths import explain_missing
from facekit.pages.charts import Bars, bar_chart
from facekit.pages.overlay import overlay
from facekit.pages.shell import (
    FOLDER,
    Cell,
    Html,
    Row,
    Section,
    beside,
    definitions,
    escape,
    join,
    page,
    table,
    warning,
)
from facekit.pictures.read import read_picture
from facekit.template import Template
from facekit.training_data.transforms import mean_colour_bgr

THUMBNAIL_SIDE = 320  # pixels, the longest
DRAW_SIDE = 240
DRAWS = 4  # of the augmentation a picture
SMALL_FACE_PX = 16  # height under which a face is called small
MAX_PAGE_BYTES = 48 << 20
MAX_NAMED = 50  # pictures that can't be read, by name
HISTOGRAM_TOPS = (20.0, 40.0, 60.0, 100.0)  # per cent
FACE_COUNTS = (0, 1, 2, 5, 10, 20, 50)  # first of each range of faces a picture; the last is open
CONTROLS = Html(
    f"""<div class="controls">
<div class="scripted" hidden>
<label>Sort by <select id="sort">
<option value="order">the labels' order</option><option value="name">name</option>
<option value="faces down">most faces</option><option value="faces">fewest faces</option>
<option value="smallest">smallest face</option><option value="largest down">largest face</option>
</select></label>
<label>Show <select id="filter">
<option value="all">all</option><option value="none">without faces</option>
<option value="small">with faces under {SMALL_FACE_PX} px</option><option value="landmarks">with landmarks</option>
<option value="unmarked">with faces without landmarks</option>
</select></label>
<label>Name <input type="search" id="search" size="12"></label>
</div>
<label><input type="checkbox" id="show-boxes" checked> boxes</label>
<label><input type="checkbox" id="show-landmarks" checked> landmarks</label>
<output class="scripted" id="shown" hidden></output>
</div>"""
)
DIALOG = Html(
    """<dialog id="enlarged" aria-labelledby="enlarged-name">
<form method="dialog"><span id="enlarged-name"></span><button>Close</button></form>
<div id="enlarged-picture"></div>
</dialog>"""
)
BROWSE_SCRIPT = (FOLDER / "browse.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Augmentation:
    """Which training the draws beside the pictures are of."""

    template: Template
    seed: int  # as of `facekit train --seed`


def browse_page(
    title: str, pictures: Sequence[PictureLabels], limit: int = 200, augmentation: Augmentation | None = None,
    losses: list[Loss] | None = None,
) -> str:  # fmt: skip
    """A complete HTML document with at most `limit` (1 or more) of the pictures, taken evenly, under a progress bar.

    pictures: labels as they were written; those whose picture can't be read are named on the page.
    augmentation: shows beside each picture what training feeds the network with, in its first epochs. The page stays
    under MAX_PAGE_BYTES; it says where that cut it short.
    losses: gets the pictures that can't be read, and those behind the cut.
    Raises FacekitError, with the folders that were looked in, where not one of them can be shown.
    """
    draws = _Draws(pictures, augmentation, title) if augmentation else None
    cards: list[Html] = []
    bad: list[str] = []
    size, cut, losses = 0, False, [] if losses is None else losses
    chosen = even_sample(len(pictures), limit)
    for index in progress_bar(chosen, desc="browse", unit="picture"):
        try:
            card = _card(pictures[index], draws.of(index) if draws and index in draws.numbers else Html())
        except FacekitError as error:
            bad.append(str(error))
            losses.append(Loss.of(pictures[index].path, error))
            continue
        size += len(card)
        if size > MAX_PAGE_BYTES:
            cut = True
            break
        cards.append(card)
    if not cards and pictures:
        raise FacekitError(f"{title}: not one picture can be shown. {explain_missing(pictures) or bad[0]}")
    if cut:
        left = len(chosen) - len(cards) - len(bad)
        why = f"the page is full ({MAX_PAGE_BYTES >> 20} MiB) after {len(cards)}. Lower `limit`."
        losses.append(Loss(f"{counted(left, 'picture')} of the {len(chosen)} asked for", why))
    header = join(
        [
            Html('<p class="kind">Data set</p>'),
            Html(f"<h1>{escape(title)}</h1>"),
            _facts(pictures, len(cards)),
            *_notes(len(pictures), len(cards), limit, cut, bad),
        ]
    )
    sections = [Section("summary", "Faces", _summary(pictures))] if pictures else []
    if cards:
        sections.append(Section("pictures", "Pictures", _gallery(cards, augmentation)))
    if bad:
        sections.append(Section("unreadable", "Pictures that can't be shown", _bad_list(bad)))
    return page(f"{title}: pictures", header, sections, scripts=[BROWSE_SCRIPT])


def even_sample(count: int, limit: int) -> list[int]:
    """Up to `limit` of 0..count-1, evenly, with the first and the last."""
    if count <= limit:
        return list(range(count))
    return sorted({round(float(place)) for place in np.linspace(0, count - 1, limit)})


def _place(_: int, face: int | None) -> str:
    return "" if face is None else f"face {face + 1}"


class _Draws:
    """What training would read: without the pictures that the disk lacks (it refuses such a set) and the boxes that
    readers leave out. Picture i of epoch e is what a training with that seed feeds."""

    def __init__(self, pictures: Sequence[PictureLabels], augmentation: Augmentation, title: str) -> None:
        there = [index for index, picture in enumerate(pictures) if picture.path.is_file()]
        learnt = finish_reading([pictures[index] for index in there], Path(title), Path(), _place, None)
        from facekit.training_data.training_set import TrainingSet  # takes PyTorch, which looking at labels does not

        template = augmentation.template
        fill_bgr = mean_colour_bgr(template.input)
        self.numbers = {index: number for number, index in enumerate(there)}
        self.dataset = TrainingSet(
            learnt, template.augmentation, template.input.size_hw, fill_bgr, repeats=1, seed=augmentation.seed
        )

    def of(self, index: int) -> Html:
        """The draws of the set's picture `index`."""
        parts = []
        for epoch in range(DRAWS):
            self.dataset.epoch.fill_(epoch)
            sample = self.dataset[self.numbers[index]]
            boxes_xyxy = sample.boxes_xyxy.astype(np.float64)
            told = f"epoch {epoch + 1}: {_faces(len(boxes_xyxy))}"
            drawn = overlay(
                sample.image_bgr, boxes_xyxy, sample.landmarks_xy.astype(np.float64), np.zeros(len(boxes_xyxy), bool),
                told, DRAW_SIDE,
            )  # fmt: skip
            parts.append(Html(f'<div><div class="view">{drawn}</div><p>{told}</p></div>'))
        return join(parts)


def _card(picture: PictureLabels, draws: Html) -> Html:
    """One picture, with what it is sorted and filtered by. Raises FacekitError where it can't be read."""
    image_bgr = read_picture(picture.path, picture.size_wh)
    name = picture.name or picture.path.name
    faces = len(picture.boxes_xywh)
    heights = picture.boxes_xywh[:, 3]
    marked = int(np.isfinite(picture.landmarks_xy).all(axis=(1, 2)).sum())
    label = f"{name}, {_faces(faces)}"
    drawn = overlay(image_bgr, picture.boxes_xyxy, picture.landmarks_xy, picture.is_crowd, label, THUMBNAIL_SIDE)
    smallest, largest = (f"{value:.1f}" for value in (heights.min(), heights.max())) if faces else ("", "")
    height, width = image_bgr.shape[:2]
    ends = dict.fromkeys(f"{float(value):.0f}" for value in (smallest, largest) if value)
    sizes = f", {' to '.join(ends)} px high" if ends else ""
    caption = (
        f"<figcaption><b>{_faces(faces)}</b>{sizes}<br>{escape(name).replace('/', '/<wbr>')}<br>"
        f"{width} \N{MULTIPLICATION SIGN} {height} px</figcaption>"
    )
    view = f'<div class="view">{drawn}</div>'
    body = f'{caption}\n<div class="draws"><div class="source">{view}</div>{draws}</div>' if draws else view + caption
    return Html(
        f'<figure class="picture" data-name="{escape(name)}" data-faces="{faces}" data-smallest="{smallest}" '
        f'data-largest="{largest}" data-landmarks="{marked}">{body}</figure>'
    )


def _faces(count: int) -> str:
    return counted(count, "face") if count else "no faces"


def _facts(pictures: Sequence[PictureLabels], shown: int) -> Html:
    figures = statistics(pictures)
    spread = figures["faces_a_picture"]
    crowds = sum(int(picture.is_crowd.sum()) for picture in pictures)
    return definitions(
        [
            ("Pictures", f"{len(pictures):,}"),
            ("Shown here", f"{shown:,}"),
            ("Faces", f"{figures['faces']:,}"),
            ("With landmarks", f"{figures['faces_with_landmarks']:,}"),
            ("Regions of many faces", f"{crowds:,}" if crowds else ""),
            ("Faces a picture", f"mean {spread['mean']:g}, median {spread['median']:g}, most {spread['most']:,}"),
        ]
    )


def _notes(count: int, shown: int, limit: int, cut: bool, bad: Sequence[str]) -> list[Html]:
    notes = []
    if cut:
        notes.append(
            warning(f"The page is full after {shown} pictures ({MAX_PAGE_BYTES >> 20} MiB): give a lower --limit.")
        )
    if count > limit:
        notes.append(
            Html(f'<p class="note">{limit:,} of the {count:,} pictures were taken, evenly over the set; --limit '
                 "changes that. The counts are of the whole set.</p>")
        )  # fmt: skip
    if bad:
        notes.append(warning(f"{len(bad)} pictures can't be shown; they are named at the end of the page."))
    return notes


def _summary(pictures: Sequence[PictureLabels]) -> Html:
    heights = statistics(pictures)["face_heights_px"]
    counts = [len(picture.boxes_xywh) for picture in pictures]
    ranges = {f"{low}-{high - 1}" if high > low + 1 else f"{low}": (low, high) for low, high in pairwise(FACE_COUNTS)}
    ranges[f"{FACE_COUNTS[-1]}+"] = (FACE_COUNTS[-1], 1 << 62)
    by_count = {name: sum(low <= count < high for count in counts) for name, (low, high) in ranges.items()}
    return beside(_histogram("face height, px", "faces", heights), _histogram("faces a picture", "pictures", by_count))


def _histogram(what: str, of: str, counts: dict[str, int]) -> Html:
    total = max(sum(counts.values()), 1)
    shares = [100 * count / total for count in counts.values()]
    rows: list[Row] = [
        [name, Cell(f"{count:,}", count), Cell(f"{share:.1f}", share)]
        for (name, count), share in zip(counts.items(), shares, strict=True)
    ]
    top = next(top for top in HISTOGRAM_TOPS if max(shares) <= top or top == HISTOGRAM_TOPS[-1])
    chart = bar_chart(what[0].upper() + what[1:], list(counts), [Bars(of, shares)], f"{of}, per cent", top)
    return join([chart, table([what, of, "per cent"], [("", rows)], what)])


def _gallery(cards: Sequence[Html], augmentation: Augmentation | None) -> Html:
    about = ""
    if augmentation is not None:
        height, width = augmentation.template.input.size_hw
        about = (
            f'<p class="note">Beside each picture: what training {escape(augmentation.template.name)} with '
            f"--seed {augmentation.seed} feeds the network in its first {DRAWS} epochs, {width} "
            f"\N{MULTIPLICATION SIGN} {height} px, with the faces that it learns from.</p>"
        )
    kind = "set augmented" if augmentation else "set"
    shown = join(cards)
    return Html(f'{about}{CONTROLS}\n<div class="{kind}" data-small="{SMALL_FACE_PX}">\n{shown}\n</div>\n{DIALOG}')


def _bad_list(bad: Sequence[str]) -> Html:
    rows = [Html(f"<li>{escape(message)}</li>") for message in bad[:MAX_NAMED]]
    if len(bad) > MAX_NAMED:
        rows.append(Html(f"<li>and {len(bad) - MAX_NAMED} more</li>"))
    return Html(f"<ul>\n{join(rows)}\n</ul>")
