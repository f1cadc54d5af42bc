"""Jobs of mini with few steps, and the video that each should become."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import Tensor

from show1 import GenerationRequest, Run, Show1Pipeline, make_request
from tests.server.processes import serve, wait_for

pytest.importorskip("dbos")
httpx2 = pytest.importorskip("httpx2")

FEW_STEPS = {
    "keyframes": {"num_inference_steps": 6, "num_frames": 2},
    "interpolation": {"num_inference_steps": 6},
    "super_resolution": {"num_inference_steps": 3},
    "translation": {"num_inference_steps": 3},
}


@pytest.fixture(scope="session")
def pipe() -> Show1Pipeline:
    return Show1Pipeline.from_pretrained("mini")


@pytest.fixture(scope="session")
def whole(pipe: Show1Pipeline) -> GenerationRequest:
    """A request of all stages."""
    return make_request("a panda spins over the snow", model=pipe, seed=1, settings=FEW_STEPS)


@pytest.fixture(scope="session")
def undisturbed(pipe: Show1Pipeline, whole: GenerationRequest, tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    """What the request gives where nothing goes wrong, (1, 3, F, H, W)."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    pipe.generate(whole, run)
    return Run.open(run).load("translation")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of a server."""
    for part in ("jobs", "workers"):
        (tmp_path / "data" / part).mkdir(parents=True)
    return tmp_path / "data"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the server that many tests share."""
    return tmp_path_factory.mktemp("serve") / "data"


@pytest.fixture(scope="session")
def address(folder: Path) -> Iterator[str]:
    """A server with a worker."""
    server, where = serve(folder)
    with server:
        wait_for(lambda: httpx2.get(f"{where}/ready").status_code == 200)
        yield where
        assert server.terminate() == 0
