"""The embedded cascade: its files, and what it makes of a prompt."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from show1 import Show1Pipeline, Video
from show1.checkpoints.locate import embedded_folder
from show1.cli.main import main
from show1.generation.run import Run
from show1.sprites.alignment.prompts import PROMPT_SETS, PromptSet, prompts_of
from show1.sprites.alignment.run import AlignmentPlan


@pytest.fixture(scope="module")
def pipe() -> Show1Pipeline:
    return Show1Pipeline.from_pretrained("mini", cache_embeddings=False)


def test_weights_are_small_and_safe() -> None:
    files = [file for file in embedded_folder().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 80e6
    assert {file.suffix for file in files} == {".json", ".safetensors"}


def test_command_makes_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's command, whole."""
    monkeypatch.chdir(tmp_path)
    code = main(["generate", "a panda spins over the snow", "--seed", "1", "-o", "panda.mp4", "--sheet", "panda.png"])
    assert code == 0
    with av.open("panda.mp4") as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.height, stream.width, stream.average_rate) == (160, 256, 8)
    video = Video.load("panda.mp4")
    assert len(video) == 29
    assert video.metadata["prompt"] == "a panda spins over the snow"
    assert (tmp_path / "panda.png").stat().st_size > 1000
    request = Run.open(next((tmp_path / "runs").iterdir())).request
    assert request is not None and request.seeds == (1,)


def test_backgrounds_follow_the_prompt(pipe: Show1Pipeline) -> None:
    """Snow is bright, the night is dark, a field is green, a sunset is red."""
    prompts = [
        f"a cat stays still over {place}" for place in ("the snow", "the night sky", "a green field", "a sunset")
    ]
    few = {"keyframes": {"num_inference_steps": 6}}
    videos = pipe(prompts, seed=[0, 1, 2, 3], until="keyframes", settings=few)
    border = [np.concatenate([v.frames[:, :4], v.frames[:, -4:]], axis=1).reshape(-1, 3).mean(0) for v in videos]
    snow, night, field, sunset = border
    assert snow.mean() > 150 > 90 > night.mean()
    assert field[1] == max(field)
    assert sunset[0] == max(sunset)


@pytest.mark.parametrize(("model", "name"), [("mini", "relations"), ("mini:fast", "motion_binding")])
def test_compositions_follow_the_prompt(model: str, name: PromptSet) -> None:
    pipe = Show1Pipeline.from_pretrained(model, cache_embeddings=False)
    plan = AlignmentPlan(sets=(name,), videos=4)
    judge, asked = plan.judges()[name], plan.items()
    videos = pipe([prompt.prompt for prompt, _ in asked], seed=[seed for _, seed in asked], until="keyframes")
    right = 0
    for (prompt, _), video in zip(asked, videos, strict=True):
        frames = torch.from_numpy(video.frames).permute(3, 0, 1, 2) / 127.5 - 1
        right += judge.score(frames)[0].verdicts(prompt)["all three"]
    assert right >= 3


def test_the_fast_preset_makes_drafts_that_are_finished_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["generate", "a panda spins over the snow", "--preset", "fast", "--seed", "1", "--run", "run"]
    assert main([*asked, "--until", "keyframes", "--count", "2", "-o", "drafts.mp4"]) == 0
    run = Run.open("run")
    assert run.manifest.model is not None and run.manifest.model.model == "mini:fast"
    assert run.request is not None
    chosen = run.request.settings.keyframes
    assert (chosen.num_inference_steps, chosen.guidance_scale) == (8, 1.0)
    assert main(["resume", "run", "--pick", "2", "-o", "picked.mp4"]) == 0
    assert Video.load("picked.mp4").metadata["model"]["model"] == "mini:fast"
    capsys.readouterr()
    assert main(["generate", "--from", "picked.mp4", "--preset", "fast", "--dry-run"]) == 2
    assert "makes another video than that of --from" in capsys.readouterr().err
    assert main(["generate", "--from", "picked.mp4", "--model", "mini", "--dry-run"]) == 2
    assert "was made by mini:fast, whose settings do not suit mini" in capsys.readouterr().err
    assert main(["generate", "--from", "picked.mp4", "--model", "mini:fast", "--dry-run"]) == 0


def test_unknown_words_are_named(pipe: Show1Pipeline) -> None:
    assert any("dragon" in warning for warning in pipe.prompt_warnings("a dragon spins over the snow"))
    for emoji in ("\U0001f43c", "a panda\U0001f43c spins over the snow", "a panda spins over the snow \u2603\ufe0f"):
        assert any("does not know" in warning for warning in pipe.prompt_warnings(emoji)), emoji
    assert pipe.prompt_warnings("a panda spins over the snow - !") == []
    for name in PROMPT_SETS:
        assert not any(pipe.prompt_warnings(prompt.prompt) for prompt in prompts_of(name)), name
