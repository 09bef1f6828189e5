from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from facekit.datasets.catalogue import FDDB, WIDERFACE, DataSet

if TYPE_CHECKING:
    from tests.conftest import Server

from tests.datasets.archives import FDDB_FILES, WIDER_FILES, served


@pytest.fixture
def wider(server: Server) -> DataSet:
    return served(WIDERFACE, WIDER_FILES, server)


@pytest.fixture
def fddb(server: Server) -> DataSet:
    return served(FDDB, FDDB_FILES, server)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "set"
