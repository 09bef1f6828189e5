"""Options of commands: one declaration for Python and the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import pytest

from facekit.base.options import arguments_of, command_options, option, split_paths, takes
from facekit.cli.options import as_flags, flags_of, options_of
from facekit.errors import ArgumentError, FacekitError


@command_options
class Options:
    source: Path = option("What is read.", positional=True, kw_only=False, reads=True)
    output: Path | None = option("What is written.", default=None, writes=True)
    names: tuple[str, ...] = option("Texts.", default=())
    files: tuple[Path, ...] = option("Files.", default=(), reads=True)
    factors: tuple[float, ...] = option("Numbers.", default=(1.0,), bare_value="0.5,2")
    count: int = option("How many.", default=2, least=1, most=9)
    rate: float | None = option("How fast; see `count`.", default=None, over=0)
    kind: Literal["a", "b"] = option("Which.", default="a", flag="--what-kind")
    force: bool = option("Dare.", default=False)
    draw: bool = option("Draw.", default=True)


@takes(Options)
def job(options: Options) -> Options:
    """Does it."""
    return options


@click.command()
@options_of(Options)
def command(**flags: Any) -> None:
    seen.append(job(**flags))


seen: list[Options] = []


def by_flags(*args: object) -> Options:
    command.main([str(arg) for arg in args], standalone_mode=False)
    return seen.pop()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in.txt").touch()
    return tmp_path / "in.txt"


class TestPython:
    def test_strings_are_paths_and_lists_tuples(self, source: Path) -> None:
        made = job(str(source), files=[str(source)], factors=[1, 2])  # type: ignore[arg-type]
        assert made == Options(source, files=(source,), factors=(1.0, 2.0))

    def test_numbers_of_numpy_are_numbers(self, source: Path) -> None:
        made = job(source, count=np.int64(3), rate=np.float32(0.5), factors=np.array([1, 2], np.float32))  # type: ignore[arg-type]
        assert made == Options(source, count=3, rate=0.5, factors=(1.0, 2.0)) and type(made.count) is int

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"count": np.bool_(True)}, "`count`: expected a whole number"),
            ({"count": 0}, "`count`: expected a whole number from 1 to 9, got 0"),
            ({"count": 2.5}, "`count`: expected a whole number"),
            ({"count": True}, "`count`: expected a whole number"),
            ({"count": "2"}, "`count`: expected a whole number from 1 to 9, got '2'"),
            ({"rate": 0}, "`rate`: expected a number over 0, got 0"),
            ({"rate": float("nan")}, "`rate`: expected a number over 0"),
            ({"rate": float("inf")}, "`rate`: expected a number over 0"),
            ({"count": 10**400}, "`count`: expected a whole number"),
            ({"kind": "c"}, "`kind`: expected 'a' or 'b', got 'c'"),
            ({"force": 1}, "`force`: expected True or False"),
            ({"output": 3}, "`output`: expected a path"),
            ({"output": "a\0b"}, "`output`: expected a path"),
            ({"output": "-"}, "`output`: expected a name, got -; "),
            ({"names": 3}, "`names`: expected a text"),
            ({"factors": "fast"}, "`factors`: expected a number"),
            ({"files": 3}, "`files`: expected paths"),
        ],
    )
    def test_wrong_values(self, source: Path, given: dict[str, Any], message: str) -> None:
        with pytest.raises(ArgumentError) as caught:
            job(source, **given)
        assert message in str(caught.value)

    def test_unknown_names(self, source: Path) -> None:
        with pytest.raises(ArgumentError, match=r"job\(\): there is no argument 'colour'\."):
            job(source, colour=3)  # type: ignore[call-arg]
        with pytest.raises(ArgumentError, match=r"'cout'\. Did you mean count\?"):
            job(source, cout=3)  # type: ignore[call-arg]

    def test_missing_and_too_many(self, source: Path) -> None:
        with pytest.raises(ArgumentError, match="expected `source`, got none"):
            job()  # type: ignore[call-arg]
        with pytest.raises(ArgumentError, match=r"job\(\): too many positional arguments"):
            job(source, source)  # type: ignore[misc]
        with pytest.raises(ArgumentError, match=r"job\(\): multiple values for argument 'source'"):
            job(source, source=source)  # type: ignore[misc]

    @pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value]])
    def test_arrays_and_bytes_are_no_paths(self, source: Path, wrap: Callable[[Any], Any]) -> None:
        for name in ("names", "files"):
            with pytest.raises(ArgumentError, match=f"`{name}`: .*got an array; for arrays use Detector.detect"):
                job(source, **{name: wrap(np.zeros((4, 4, 3), np.uint8))})
            with pytest.raises(ArgumentError, match=f"`{name}`: .*got bytes"):
                job(source, **{name: wrap(b"a.jpg")})
        assert job(source, factors=np.array([1.0, 2.0])).factors == (1.0, 2.0)  # type: ignore[arg-type]

    def test_missing_files_name_the_nearest(self, source: Path) -> None:
        with pytest.raises(FacekitError, match=r"i\.txt: there is no such .* Did you mean .*in\.txt\? Check `source`"):
            job(source.with_name("i.txt"))

    def test_inputs_are_sacred(self, source: Path) -> None:
        for name in ("in.txt", "hard.txt", "soft.txt"):
            if name == "hard.txt":
                os.link(source, source.with_name(name))
            elif name == "soft.txt":
                source.with_name(name).symlink_to(source)
            with pytest.raises(FacekitError, match="would be written over"):
                job(source, output=source.with_name(name))


class TestCommandLine:
    def test_defaults_are_the_same(self, source: Path) -> None:
        assert by_flags(source) == job(source)

    def test_all(self, source: Path) -> None:
        made = by_flags(
            source, "--output", "x", "--names", "a,b", "--names", "c", "--files", source, "--factors", "--count", 3,
            "--rate", 0.5, "--what-kind", "b", "--force", "--no-draw",
        )  # fmt: skip
        assert made == Options(
            source, output=Path("x"), names=("a,b", "c"), files=(source,), factors=(0.5, 2.0), count=3, rate=0.5,
            kind="b", force=True, draw=False,
        )  # fmt: skip
        assert by_flags(*arguments_of(made)) == made

    @pytest.mark.parametrize("wrong", [("--count", 10), ("--rate", 0), ("--what-kind", "c"), ("--factors", "1,x")])
    def test_wrong_values(self, source: Path, wrong: tuple[object, ...]) -> None:
        with pytest.raises(click.UsageError):
            by_flags(source, *wrong)

    @pytest.mark.parametrize("name", ["s3://b/x.txt", "rtmp://u:SECRET@h/live.mp4", "HTTPS://u:SECRET@h/x"])
    def test_addresses_are_no_paths(self, source: Path, name: str) -> None:
        for call in (
            lambda: by_flags(source, "--output", name),
            lambda: by_flags(source, "--files", f"{source},{name}"),
            lambda: job(source, output=name),
            lambda: job(name),
            lambda: job(source, output=Path(name)),
        ):
            with pytest.raises(ArgumentError, match=r"`(output|files|source)`: expected a path, got the address"):
                call()
        for plain in ("C://x", "a:b", "x/s3://b"):
            assert by_flags(source, "--output", plain).output == job(source, output=plain).output == Path(plain)

    def test_a_flag_with_one_value_is_given_once(self, source: Path, caplog: pytest.LogCaptureFixture) -> None:
        with pytest.raises(click.UsageError, match=r"--output was given 2 times \(x and y\); give it once"):
            by_flags(source, "--output", "x", "--output", "y")
        assert by_flags(source, "--count", 2, "--factors", "--count", 3, "--factors", "1,2").count == 3
        said = ["--count was given 2 times (2 and 3): the last one counts.", "--factors was given 2 times"]
        assert [text.partition(" (0.5")[0] for text in caplog.messages] == said
        caplog.clear()
        same = by_flags(source, "--output", "x", "--output=x", "--count", 3, "--factors", "--factors")
        assert (same.output, same.count, same.factors) == (Path("x"), 3, (0.5, 2.0)) and not caplog.messages

    def test_messages_speak_of_flags(self) -> None:
        text = "Give `kind=b`, `force=True` or `count`, not `nonsense`; `facekit eval --report` wrote `source`."
        assert as_flags(text, flags_of(command)) == (
            "Give --what-kind b, --force or --count, not `nonsense`; `facekit eval --report` wrote SOURCE."
        )
        option_of = next(param for param in command.params if param.name == "rate")
        assert isinstance(option_of, click.Option) and option_of.help == "How fast; see --count."


class TestSplitPaths:
    def test_commas(self) -> None:
        assert split_paths("a,b") == (Path("a"), Path("b"))
        assert split_paths(["a,b", Path("c")]) == (Path("a"), Path("b"), Path("c"))

    def test_what_exists_is_whole(self, tmp_path: Path) -> None:
        (tmp_path / "a,b").mkdir()
        place = str(tmp_path / "a,b")
        assert split_paths(place) == (Path(place),)
        assert split_paths(f"x,{place},y") == (Path("x"), Path(place), Path("y"))
        assert split_paths(f"{place}:train,y") == (Path(f"{place}:train"), Path("y"))
