"""Configs of the expert and of the first-frame part with one wrong value: a right video, or an error of the package."""

import json
import math
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from show1.errors import Show1Error
from show1.generation.pipeline import Show1Pipeline
from show1.generation.verify import verify
from tests.mutations import mutated, places
from tests.published_layout import small_changes

EXPERT, FIRST = "show-1-sr2", "IF-II-L-v1.0"
CONFIGS = [
    f"{EXPERT}/vae/config.json",
    f"{EXPERT}/unet/config.json",
    f"{EXPERT}/text_encoder/config.json",
    f"{FIRST}/unet/config.json",
    f"{FIRST}/scheduler/scheduler_config.json",
    f"{FIRST}/image_noising_scheduler/scheduler_config.json",
]
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 3, 10**7, 10**30, 0.5, -0.5, 1e300, math.nan, math.inf, "", "x", "relu", "/etc/passwd",
    "a" * 5000, [], [0], [1, 2], [-1] * 3, [10**9] * 2, ["x"], [[[1]]], [None], {}, {"a": 1}, ["DownBlock2D"] * 5, ...,
]  # fmt: skip


def use(published: Path, changed: Path) -> None:
    """Verifies the model with a changed folder, and runs the stage that reads it."""
    video = torch.linspace(-1, 1, 2 * 3 * 8 * 16).reshape(1, 2, 3, 8, 16).transpose(1, 2)
    if changed.name == EXPERT:
        model, stage = {"translation": str(changed)}, "translation"
    else:
        small = {"keyframes": "show-1-base", "super_resolution": "show-1-sr1"}
        model = {**{name: str(published / folder) for name, folder in small.items()}, "first_frame": str(changed)}
        stage = "super_resolution"
    verify(model, deep=True)
    pipe = Show1Pipeline.from_pretrained(model)
    settings = {stage: small_changes()[stage]}
    made = pipe("a panda", start_from=stage, until=stage, video=video, settings=settings, seed=1, output_type="pt")
    assert made.isfinite().all()


def is_refused(published: Path, folder: Path, path: Any, value: Any) -> bool:
    """Uses the model with a changed folder: whether that is an error of the package, or works, in a short time."""
    began = time.process_time()
    try:
        use(published, folder)
    except Show1Error:
        return True
    except Exception as error:
        raise AssertionError(f"{path} = {value!r:.60}: {type(error).__name__}: {error}") from error
    finally:
        assert time.process_time() - began < 10, f"{path} = {value!r:.60} took too long"
    return False


def check(published: Path, tmp_path: Path, name: str, count: int) -> None:
    source = published / name
    folder = Path(shutil.copytree(published / Path(name).parts[0], tmp_path / Path(name).parts[0]))
    use(published, folder)
    known, rng, refused = json.loads(source.read_text()), random.Random(name), 0
    for _ in range(count):
        path, value = rng.choice(list(places(known))), rng.choice(VALUES)
        (tmp_path / name).write_text(json.dumps(mutated(known, path, value)))
        refused += is_refused(published, folder, path, value)
    assert refused > count / 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CONFIGS)
def test_one_wrong_value_is_an_error_or_does_no_harm(published: Path, tmp_path: Path, name: str) -> None:
    check(published, tmp_path, name, 12)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("vae", "norm_num_groups", 0.5),
        ("vae", "norm_num_groups", -1),
        ("vae", "scaling_factor", {"a": 1}),
        ("text_encoder", "eos_token_id", [0]),
        ("text_encoder", "num_attention_heads", -1),
    ],
)
def test_a_wrong_value_is_named(published: Path, tmp_path: Path, name: str, key: str, value: Any) -> None:
    folder = Path(shutil.copytree(published / EXPERT, tmp_path / EXPERT))
    file = folder / name / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(Show1Error, match=rf"{key} must be"):
        use(published, folder)


@pytest.mark.thousands
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CONFIGS)
def test_many_wrong_values(published: Path, tmp_path: Path, name: str) -> None:
    check(published, tmp_path, name, 400)
