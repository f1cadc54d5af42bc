"""The embedded cascade: its files, and what it makes of a prompt."""

from pathlib import Path

import av
import numpy as np
import pytest

from show1 import Show1Pipeline, Video
from show1.checkpoints.locate import embedded_folder
from show1.cli.main import main
from show1.generation.run import Run


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


def test_unknown_words_are_named(pipe: Show1Pipeline) -> None:
    assert any("dragon" in warning for warning in pipe.prompt_warnings("a dragon spins over the snow"))
    for emoji in ("\U0001f43c", "a panda\U0001f43c spins over the snow", "a panda spins over the snow \u2603\ufe0f"):
        assert any("does not know" in warning for warning in pipe.prompt_warnings(emoji)), emoji
    assert pipe.prompt_warnings("a panda spins over the snow - !") == []
