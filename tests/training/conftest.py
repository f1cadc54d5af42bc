"""Small exports of every task, trained for a step or two."""

from collections.abc import Iterator

import pytest
import torch

from tests.training import tiny_training
from tests.training.tiny_training import Exports


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The preset "tiny", small views, one thread (so that sums have one order)."""
    tiny_training.install(monkeypatch.setitem)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    return Exports(tmp_path_factory.mktemp("exports"))
