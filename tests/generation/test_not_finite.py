"""Numbers that are not finite, wherever they come from: an error that says where and what to do; nothing is kept."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from show1.config import StageName
from show1.errors import InputError, RunError, Show1Error
from show1.files import sha256, write_json
from show1.generation.pipeline import Show1Pipeline
from show1.generation.run import MANIFEST, Run
from show1.video import Video
from tests.published_layout import small_changes

PROMPT = "a panda spins over the snow"


@pytest.fixture
def pipe(published: Path) -> Show1Pipeline:
    return Show1Pipeline.from_pretrained(published, memory="high", device="cpu", cache_embeddings=False)


def spoil(pipe: Show1Pipeline, stage: StageName, part: str = "unet") -> None:
    """Makes a network of a stage overflow, as half precision does."""
    with pipe.resident(stage) as network:
        next(iter(getattr(network, part).parameters())).data.fill_(math.nan)


@pytest.mark.parametrize(
    ("stage", "part"),
    [("keyframes", "unet"), ("interpolation", "unet"), ("translation", "unet"), ("translation", "vae")],
)
def test_a_stage_that_overflows_is_not_kept(pipe: Show1Pipeline, tmp_path: Path, stage: StageName, part: str) -> None:
    spoil(pipe, stage, part)
    with pytest.raises(
        Show1Error, match=f"the stage '{stage}' computed numbers that are not finite.*{stage}.guid"
    ) as told:
        pipe(PROMPT, seed=1, settings=small_changes(), run=tmp_path / "run")
    assert type(told.value) is Show1Error and "float16" not in str(told.value)
    assert stage not in Run.open(tmp_path / "run").finished_stages
    assert not (tmp_path / "run" / f"{stage}.safetensors").exists()


def test_an_overflow_is_found_at_its_step(pipe: Show1Pipeline) -> None:
    from show1 import Callbacks

    steps: list[int] = []
    spoil(pipe, "keyframes")
    with pytest.raises(Show1Error, match="keyframes"):
        pipe(
            PROMPT,
            settings=small_changes(),
            callbacks=Callbacks(on_step_end=lambda stage, done, *_: steps.append(done)),
        )
    assert steps == []


def test_half_precision_is_named(pipe: Show1Pipeline) -> None:
    spoil(pipe, "keyframes")
    pipe.dtype = torch.float16
    with pytest.raises(Show1Error, match="another precision than float16"):
        pipe(PROMPT, settings=small_changes(), until="keyframes")


def test_text_states(pipe: Show1Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("show1.text.encoder.PromptEncoder._encode_one", lambda *_: torch.full((77, 32), math.inf))
    with pytest.raises(Show1Error, match="the text states for the stage 'keyframes' hold numbers that are not finite"):
        pipe(PROMPT, settings=small_changes())


def test_a_tensor_with_nan_is_no_video() -> None:
    with pytest.raises(InputError, match="not finite"):
        Video.from_tensor(torch.full((3, 1, 2, 2), math.nan), fps=8)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda video: video.fill_(math.nan), "not finite"),
        (lambda video: video[:, :, :-1], "no video for the request"),
        (lambda video: video[:, :2], "no video for the request"),
        (lambda video: video.repeat(2, 1, 1, 1, 1), "no video for the request"),
        (lambda video: video.double(), "no video for the request"),
        (lambda video: video[0], "no video for the request"),
    ],
)
def test_artefacts_that_are_wrong_though_their_hash_is_right(
    pipe: Show1Pipeline, tmp_path: Path, wrong: Any, said: str
) -> None:
    pipe(PROMPT, seed=1, settings=small_changes(), until="keyframes", run=tmp_path / "run")
    run = Run.open(tmp_path / "run")
    file = run.result("keyframes").path
    save_file({"video": wrong(run.load("keyframes")).contiguous()}, file)
    manifest = run.manifest.to_dict()
    manifest["stages"]["keyframes"]["sha256"] = sha256(file)
    write_json(run.path / MANIFEST, manifest)
    with pytest.raises(RunError, match=f"{said}.*delete it and resume"):
        pipe.resume(run.path)
    file.unlink()
    assert len(pipe.resume(run.path)) == 1
