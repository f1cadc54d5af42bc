"""What all tests share: no Hub, caches of their own, and small models of the published layout."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOW1_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _float32() -> Iterator[None]:
    """Default precision of all tests, so that they see the same numbers on processors with bfloat16 as on others."""
    from show1.runtime import placement

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "computes_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the published repositories by name, small and random. Not to be changed: copy it first."""
    from tests.published_layout import build_published

    return build_published(tmp_path_factory.mktemp("published"))


@pytest.fixture(params=["squaredcos_cap_v2", "scaled_linear"])
def scheduler(request: pytest.FixtureRequest) -> Any:
    """The noise schedule of the pixel stages, and that of the latent stage."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(beta_schedule=request.param, variance_type="learned_range")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` run where there is one."""
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
