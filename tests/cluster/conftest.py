"""What tests of the cluster share."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key


@pytest.fixture(autouse=True, scope="module")
def crashes_are_told(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ray takes the signals of crashes for itself and says nothing: later tests of this process would die silently."""
    yield
    faulthandler.disable()
    faulthandler.enable(file=request.config.stash[fault_handler_stderr_fd_key])
