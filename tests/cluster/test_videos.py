"""Videos in shards, joined again, against the plain run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import facekit
from facekit.cluster.stores import Entry
from facekit.cluster.videos import shards_of
from facekit.errors import FacekitError
from tests.cluster.support import tar_of
from tests.pictures.av_support import make, moved

FRAMES = 48


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, project_dir: Path) -> Path:
    """A face that moves, goes behind a bar for a while, and comes again; a key frame each tenth; odd times."""
    portrait = cv2.imread(str(project_dir / "data" / "demo" / "astronaut.jpg"))
    assert portrait is not None
    images = []
    for number in range(FRAMES):
        image = np.ascontiguousarray(portrait[:256, 60 + 2 * number : 316 + 2 * number])
        if 18 <= number < 23:  # over a key frame
            image[:, 60:200] = 90
        images.append(image)
    times_ms = [40 * number + 7 * (number % 3) for number in range(FRAMES)]
    folder = tmp_path_factory.mktemp("video")
    return make(folder / "a.mp4", times_ms, (256, 256), sound=False, images_bgr=images)


def both(video: Path, folder: Path, **options: Any) -> tuple[str, str]:
    """The rows of the plain run, and of the same in shards of twelve frames, as text."""
    empty = folder / "empty.tar"  # so that shards are written without Ray
    empty.write_bytes(tar_of([]))
    facekit.detect(str(video), jsonl=folder / "plain.jsonl", threads=1, **options).run()
    found = facekit.detect((str(video), str(empty)), jsonl=folder / "out", threads=1, shard_size=12, **options)
    found.run()
    text = "".join(path.read_text() for path in sorted((folder / "out").glob("part-*")))
    return (folder / "plain.jsonl").read_text(), text


class TestShards:
    def test_begin_at_key_frames(self, video: Path) -> None:
        shards = list(shards_of(Entry(str(video), None), 12))
        assert [shard.pictures for shard in shards] == [20, 28]
        assert sum(shard.pictures or 0 for shard in shards) == FRAMES
        assert [shard.span_s and shard.span_s[0] for shard in shards] == [0.0, pytest.approx(0.8, abs=0.02)]

    def test_whole_where_it_is_short_or_no_video(self, video: Path, tmp_path: Path) -> None:
        (shard,) = shards_of(Entry(str(video), None), 40)
        assert (shard.span_s, shard.pictures) == (None, FRAMES)
        (tmp_path / "junk.mp4").write_bytes(b"junk" * 999)
        (shard,) = shards_of(Entry(str(tmp_path / "junk.mp4"), None), 12)
        assert (shard.span_s, shard.pictures) == (None, None)

    def test_whole_where_its_first_key_frame_is_hidden(self, video: Path, tmp_path: Path) -> None:
        trimmed = moved(video, tmp_path / "a.mp4", -0.13)
        (shard,) = shards_of(Entry(str(trimmed), None), 12)
        assert (shard.span_s, shard.pictures) == (None, FRAMES - 4)


class TestRows:
    @pytest.mark.parametrize("options", [{}, {"track": True}, {"every": 3}, {"every": 3, "track": True}], ids=str)
    def test_are_those_of_the_plain_run(self, options: dict[str, Any], video: Path, tmp_path: Path) -> None:
        plain, shared = both(video, tmp_path, longest_side=160, **options)
        assert plain == shared
        assert plain.count("\n") == FRAMES and plain.count("box_xyxy") > FRAMES // 2
        assert len(list((tmp_path / "out").glob("part-*"))) == 3
        assert not (tmp_path / "out" / "_facekit" / "raw").exists()

    @pytest.mark.parametrize("options", [{"every": 3}, {"track": True}], ids=str)
    def test_a_video_that_is_given_twice(self, options: dict[str, Any], tmp_path: Path, video: Path) -> None:
        (tmp_path / "empty.tar").write_bytes(tar_of([]))
        options = options | {"threads": 1, "longest_side": 160}
        facekit.detect((str(video), str(video)), jsonl=tmp_path / "plain.jsonl", **options).run()
        given = (str(video), str(video), str(tmp_path / "empty.tar"))
        facekit.detect(given, jsonl=tmp_path / "out", **options).run()
        text = "".join(path.read_text() for path in sorted((tmp_path / "out").glob("part-*")))
        assert text == (tmp_path / "plain.jsonl").read_text()

    def test_tracks_go_over_from_shard_to_shard(self, video: Path, tmp_path: Path) -> None:
        _, shared = both(video, tmp_path, longest_side=160, track=True)
        tracks = {line.partition('"track":')[2].partition(",")[0].rstrip("}]") for line in shared.splitlines()}
        assert len(tracks - {""}) == 1

    def test_a_video_that_breaks_off(self, video: Path, tmp_path: Path) -> None:
        """One row behind its frames says so."""
        cut = make(tmp_path / "cut.mkv", [40 * number for number in range(30)], sound=False)
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
        plain, shared = both(cut, tmp_path)
        assert plain == shared

    def test_no_video(self, tmp_path: Path) -> None:
        (tmp_path / "junk.mp4").write_bytes(b"junk" * 999)
        (tmp_path / "empty.tar").write_bytes(tar_of([]))
        found = facekit.detect((str(tmp_path / "junk.mp4"), str(tmp_path / "empty.tar")), jsonl=tmp_path / "out")
        with pytest.raises(FacekitError, match=r"None of 1 pictures could be read\. The first: .*junk\.mp4"):
            found.run()
