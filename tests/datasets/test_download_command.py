"""`facekit data download`, from a server on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from facekit import cli
from facekit.datasets import catalogue
from facekit.datasets.catalogue import DataSet

if TYPE_CHECKING:
    from tests.conftest import Server


class TestCommand:
    @pytest.fixture
    def run(
        self, wider: DataSet, fddb: DataSet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> object:
        monkeypatch.setattr(catalogue, "DATA_SETS", {"widerface": wider, "fddb": fddb})

        def run(*args: object) -> tuple[int, str, str]:
            with pytest.raises(SystemExit) as caught:
                cli.main(["data", "download", *map(str, args)], prog_name="facekit")
            code = caught.value.code
            assert isinstance(code, int)
            return code, *capsys.readouterr()

        return run

    def test_widerface(self, run, folder: Path) -> None:
        code, out, err = run("widerface", folder, "--with-test", "--remove-archives")
        assert code == 0, err
        assert err.index("research only") < err.index("WIDER_train.zip")
        assert "to download" in err and "are free" in err and "3 pictures, 2 faces" in out
        assert (folder / "WIDER_test").is_dir() and not list((folder / "archives").iterdir())
        assert run("widerface", folder)[0] == 0

    def test_val_only(self, run, folder: Path) -> None:
        code, out, _ = run("widerface", folder, "--val-only")
        assert code == 0
        assert "train.txt" not in out and not (folder / "WIDER_train").exists()

    def test_fddb(self, run, folder: Path) -> None:
        code, out, err = run("fddb", folder)
        assert code == 0, err
        assert "2 pictures, 3 faces" in out and "is recorded in" in err

    def test_no_network(self, run, folder: Path, server: Server) -> None:
        server.files.clear()
        code, _, err = run("widerface", folder)
        assert code == 1
        assert "research only" in err
        assert "WIDER_train.zip could not be downloaded" in err and "Traceback" not in err

    @pytest.mark.parametrize(
        "args", [("fddb", "--with-test"), ("fddb", "--val-only"), ("widerface", "--val-only", "--landmarks", "x")]
    )
    def test_flags_that_do_not_fit(self, run, folder: Path, args: tuple[str, ...], server: Server) -> None:
        assert run(args[0], folder, *args[1:])[0] == 2
        assert not server.requests

    def test_landmarks_are_looked_at_first(self, run, folder: Path, server: Server, tmp_path: Path) -> None:
        code, _, err = run("widerface", folder, "--landmarks", tmp_path / "none.txt")
        assert code == 1 and "none.txt" in err
        assert not server.requests
