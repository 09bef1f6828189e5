"""Text files with a picture's name, its number of faces, and then a face a line: WIDER's and FDDB's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from facekit.labels.formats.text_lines import malformed, read_lines

MAX_FACES = 1_000_000  # a picture; a larger count is a mistake
MAX_DIGITS = 7

ParseName = Callable[[Path, int, str], str]  # (file, line, text); raises FacekitError with the line
ParseFace = Callable[[Path, int, str], list[float]]


def is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()


def counted_blocks(
    source: Path, parse_name: ParseName, parse_face: ParseFace, no_face: str = ""
) -> Iterator[tuple[int, str, list[int], list[list[float]]]]:
    """Line and name of each picture, the lines of its faces, and their numbers.

    no_face: a line that may stand behind a count of 0, by its fields; blanks between them don't matter.
    Raises FacekitError with the line at fault.
    """
    lines = read_lines(source)
    after_zero = False
    for number, text in lines:
        if not text or (after_zero and text.split() == no_face.split()):
            after_zero = after_zero and not text
            continue
        name = parse_name(source, number, text)
        count_line, count = next(lines, (number + 1, "the end of the file"))
        if not is_count(count) or len(count) > MAX_DIGITS or int(count) > MAX_FACES:
            raise malformed(source, count_line, "the number of faces", count)
        places: list[int] = []
        rows: list[list[float]] = []
        for index in range(int(count)):
            line, face = next(lines, (count_line + index + 1, ""))
            if not face:
                expected = f"face {index + 1} of the {count} that line {count_line} promises"
                raise malformed(source, line, expected, "no more", "Is the file cut off?")
            rows.append(parse_face(source, line, face))
            places.append(line)
        yield number, name, places, rows
        after_zero = not places
