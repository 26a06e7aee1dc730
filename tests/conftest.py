"""What all tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Engines that tests read and write are not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCCAM_CACHE_DIR", str(tmp_path_factory.mktemp("engines")))
        yield


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks as small as the tests' are not worth waiting for a second core of PyTorch."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two_cores() -> Iterator[None]:
    """A recognizer that is made has work for threads of its own, whatever the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("occam_sdk.recognizer.usable_cores", lambda: 2)
        yield
