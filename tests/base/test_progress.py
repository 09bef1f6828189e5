from __future__ import annotations

import time

import pytest

from facekit.base import progress
from facekit.base.progress import progress_bar, signs_of_life, working


class TestWorking:
    def test_says_what_and_for_how_long(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress, "SIGN_INTERVAL_S", 0.05)
        with working("tracing"):
            time.sleep(0.3)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) >= 3
        assert set(lines) == {"tracing ... 0 s"}

    def test_silent_where_it_is_quick(self, capsys: pytest.CaptureFixture[str]) -> None:
        with working("tracing"):
            pass
        assert capsys.readouterr().err == ""

    def test_ends_with_an_error(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(progress, "SIGN_INTERVAL_S", 0.02)
        with pytest.raises(ValueError, match="no"), working("tracing"):
            raise ValueError("no")
        capsys.readouterr()
        time.sleep(0.1)
        assert capsys.readouterr().err == ""


def test_without_standard_error_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a daemon."""
    monkeypatch.setattr(progress, "SIGN_INTERVAL_S", 0.02)
    monkeypatch.setattr("sys.stderr", None)
    with signs_of_life():
        assert [time.sleep(0.05) or step for step in progress_bar(range(2), desc="steps")] == [0, 1]
    with working("tracing"):
        time.sleep(0.05)


class TestSignsOfLife:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(progress, "SIGN_INTERVAL_S", 0.02)

    def lines(self, capsys: pytest.CaptureFixture[str], steps: int, step_s: float) -> list[str]:
        for _ in progress_bar(range(steps), desc="steps", unit="step"):
            time.sleep(step_s)
        return capsys.readouterr().err.splitlines()

    def test_lines_of_quick_steps(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.lines(capsys, 8, 0.03) == []  # one each LINE_INTERVAL_S
        with signs_of_life():
            assert len(self.lines(capsys, 8, 0.03)) >= 4
        assert self.lines(capsys, 8, 0.03) == []

    def test_lines_within_a_slow_step(self, capsys: pytest.CaptureFixture[str]) -> None:
        with signs_of_life():
            lines = self.lines(capsys, 1, 0.4)
        assert len(lines) >= 5
        assert lines[0].startswith("steps: 0/1 ")

    def test_none_where_no_bar_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        with signs_of_life():
            self.lines(capsys, 2, 0.03)
            time.sleep(0.1)
        assert capsys.readouterr().err == ""
