"""The whole published cascade from local folders, and what the pipeline promises of it."""

import dataclasses
import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from show1.config import PUBLISHED, StageName
from show1.errors import Cancelled, InputError, RunError
from show1.generation.arguments import make_request
from show1.generation.pipeline import Show1Pipeline
from show1.generation.progress import Callbacks
from show1.generation.request import GenerationRequest
from show1.generation.run import Run
from show1.video import Video
from tests.published_layout import small_changes, small_settings

PROMPT = "A burning lamborghini driving on rainbow."
ALL = ("keyframes", "interpolation", "super_resolution", "translation")


@pytest.fixture(scope="module")
def pipe(published: Path) -> Show1Pipeline:
    return Show1Pipeline.from_pretrained(published, memory="high", device="cpu")


@pytest.fixture(scope="module")
def exact(published: Path) -> Show1Pipeline:
    """In float64, whose rounding float32 videos do not show: for what must be equal but for rounding."""
    return Show1Pipeline.from_pretrained(published, memory="high", device="cpu", dtype=torch.float64)


@pytest.fixture(scope="module")
def video(pipe: Show1Pipeline) -> Video:
    out = pipe(PROMPT, seed=345, settings=small_changes())
    assert isinstance(out, Video)
    return out


def test_the_published_cascade_runs(pipe: Show1Pipeline, video: Video) -> None:
    assert pipe.stages == ALL
    assert pipe.settings == PUBLISHED
    assert video.frames.shape == (9, 24, 40, 3)
    assert video.fps == 8.0
    assert video.frames.std() > 5
    assert np.abs(np.diff(video.frames.astype(int), axis=0)).max() > 0
    assert video.metadata["prompt"] == PROMPT
    assert video.metadata["seed"] == 345
    assert video.metadata["stages"] == list(ALL)
    assert video.metadata["settings"]["super_resolution"]["first_frame"]["noise_level"] == 150


def test_a_preset_changes_the_steps_and_settings_go_beyond_it(pipe: Show1Pipeline) -> None:
    fewer = {"keyframes": {"num_inference_steps": 5}}
    request = make_request(PROMPT, model=pipe, preset="efficient", settings=fewer, seed=1)
    keyframes, upscaled = request.settings.keyframes, request.settings.super_resolution
    assert (keyframes.num_inference_steps, keyframes.time_grid) == (5, "logsnr")
    assert (upscaled.num_inference_steps, upscaled.time_grid) == (41, "logsnr")
    pipe.check(request)
    grid = {stage: {**changes, "time_grid": "logsnr"} for stage, changes in small_changes().items()}
    video = pipe(PROMPT, seed=345, settings=grid, until="keyframes")
    assert np.isfinite(video.frames).all() and video.metadata["settings"]["keyframes"]["time_grid"] == "logsnr"


def test_the_published_draws_give_another_video_and_again_the_same(pipe: Show1Pipeline, video: Video) -> None:
    options: dict[str, Any] = {"seed": 345, "settings": small_changes(), "numerics": "published"}
    first, second = pipe(PROMPT, **options), pipe(PROMPT, **options)
    assert (first.frames == second.frames).all()
    assert (first.frames != video.frames).any()


def test_low_memory_gives_the_same_video_and_frees_all(published: Path, video: Video) -> None:
    low = Show1Pipeline.from_pretrained(published, memory="low", device="cpu", cache_embeddings=False)
    held: list[tuple[str, ...]] = []
    out = low(
        PROMPT,
        seed=345,
        settings=small_changes(),
        callbacks=Callbacks(on_step_end=lambda *_: held.append(low.loaded)),
    )
    assert (out.frames == video.frames).all()
    assert set(held) == {(stage,) for stage in ALL}
    assert low.loaded == ()


def test_high_memory_keeps_all(pipe: Show1Pipeline, video: Video) -> None:
    assert set(pipe.loaded) - {"text"} == set(ALL)


def test_low_memory_holds_one_network_at_a_time(published: Path) -> None:
    pipe = Show1Pipeline.from_pretrained(published, memory="low", device="cpu", cache_embeddings=False)
    before: list[tuple[str, ...]] = []
    during: set[tuple[str, ...]] = set()
    callbacks = Callbacks(
        on_stage_start=lambda stage: before.append((stage, *pipe.loaded)),
        on_step_end=lambda stage, *_: during.add((stage, *pipe.loaded)),
    )
    pipe(PROMPT, seed=1, settings=small_changes(), until="interpolation", callbacks=callbacks)
    assert before == [("text",), ("keyframes",), ("interpolation",)]  # the text encoder is freed again by then
    assert during == {("keyframes", "keyframes"), ("interpolation", "interpolation")}


def test_auto_memory_looks_at_what_is_free(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, expected in ((10**12, "high"), (10**6, "low"), (None, "low")):
        monkeypatch.setattr("show1.runtime.placement.free_memory", lambda _, f=free: f)
        assert Show1Pipeline.from_pretrained(published, device="cpu").memory == expected


def test_a_batch_equals_its_single_videos(exact: Show1Pipeline) -> None:
    prompts = [PROMPT, "a panda spins over the snow"]
    changes = small_changes()
    changes["keyframes"]["num_frames"] = 2
    batch = exact(prompts, seed=[3, 4], settings=changes, output_type="pt")
    for prompt, seed, out in zip(prompts, (3, 4), batch, strict=True):
        assert torch.equal(out, exact(prompt, seed=seed, settings=changes, output_type="pt"))


def test_drafts_have_the_seeds_that_follow(exact: Show1Pipeline) -> None:
    options: dict[str, Any] = {"settings": small_changes(), "until": "keyframes", "output_type": "pt"}
    drafts = exact(PROMPT, seed=10, count=2, **options)
    assert len(drafts) == 2
    assert torch.equal(drafts[1], exact(PROMPT, seed=11, **options))
    both = exact([PROMPT, "a cat"], seed=10, count=2, **{**options, "output_type": "video"})
    assert [(v.metadata["prompt"], v.metadata["seed"]) for v in both] == [
        (PROMPT, 10),
        (PROMPT, 11),
        ("a cat", 10),
        ("a cat", 11),
    ]


def test_max_batch_changes_nothing(exact: Show1Pipeline) -> None:
    changes = small_changes()
    whole = exact(PROMPT, seed=1, settings=changes, until="interpolation", output_type="pt")
    changes["interpolation"]["max_batch"] = 1
    assert torch.equal(whole, exact(PROMPT, seed=1, settings=changes, until="interpolation", output_type="pt"))


@pytest.mark.parametrize("start", ALL[1:])
def test_stages_one_by_one_equal_the_whole(pipe: Show1Pipeline, video: Video, start: StageName) -> None:
    options: dict[str, Any] = {"seed": 345, "settings": small_changes()}
    before = pipe(PROMPT, until=ALL[ALL.index(start) - 1], output_type="pt", **options)
    ended: list[str] = []
    callbacks = Callbacks(on_stage_end=lambda stage, _: ended.append(stage))
    out = pipe(PROMPT, start_from=start, video=before, callbacks=callbacks, **options)
    assert tuple(ended) == ALL[ALL.index(start) :]
    assert out.fps == (video.fps if start == "interpolation" else 8.0)
    assert (out.frames == video.frames).all()


def test_a_video_file_s_rate_is_kept(pipe: Show1Pipeline) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 16, 3), dtype=np.uint8)
    given = Video(frames=frames, fps=12.5)
    changes = small_changes()
    out = pipe(PROMPT, seed=1, settings=changes, start_from="super_resolution", until="super_resolution", video=given)
    assert (out.fps, len(out)) == (12.5, 5)
    out = pipe(PROMPT, seed=1, settings=changes, start_from="interpolation", until="interpolation", video=given)
    assert (out.fps, len(out)) == (50.0, 17)


@pytest.mark.parametrize(("keyframes", "frames"), [(1, 1), (4, 13)])
def test_any_length(pipe: Show1Pipeline, keyframes: int, frames: int) -> None:
    out = pipe(PROMPT, seed=1, settings=small_changes(), num_keyframes=keyframes)
    assert out.frames.shape == (frames, 24, 40, 3)


def test_callbacks_count_the_steps(pipe: Show1Pipeline) -> None:
    steps: list[tuple[str, int, int]] = []
    started: list[str] = []
    ended: list[tuple[str, int, float]] = []
    pipe(
        PROMPT,
        seed=1,
        settings=small_changes(),
        callbacks=Callbacks(
            on_stage_start=started.append,
            on_step_end=lambda stage, done, total, _: steps.append((stage, done, total)),
            on_stage_end=lambda stage, videos: ended.append((stage, len(videos[0]), videos[0].fps)),
        ),
    )
    assert started == ["text", *ALL]
    assert ended == [
        ("keyframes", 3, 2.0),
        ("interpolation", 9, 8.0),
        ("super_resolution", 9, 8.0),
        ("translation", 9, 8.0),
    ]
    for stage in ALL:
        counted = [(done, total) for name, done, total in steps if name == stage]
        assert [done for done, _ in counted] == list(range(1, len(counted) + 1))
        assert {total for _, total in counted} == {len(counted)}


def test_cancelled_at_the_next_step(pipe: Show1Pipeline, published: Path, tmp_path: Path) -> None:
    cancel = threading.Event()
    seen: list[tuple[str, int]] = []

    def step(stage: str, done: int, _total: int, _samples: torch.Tensor) -> None:
        seen.append((stage, done))
        if stage == "interpolation":
            cancel.set()

    with pytest.raises(Cancelled, match="show1 resume"):
        pipe(
            PROMPT,
            seed=345,
            settings=small_changes(),
            run=tmp_path / "run",
            callbacks=Callbacks(on_step_end=step, cancel=cancel),
        )
    assert seen[-1] == ("interpolation", 1)
    low = Show1Pipeline.from_pretrained(published, memory="low", device="cpu", cache_embeddings=False)
    with pytest.raises(Cancelled):
        low(PROMPT, seed=345, settings=small_changes(), callbacks=Callbacks(on_step_end=step, cancel=cancel))
    assert low.loaded == ()
    (out,) = pipe.resume(tmp_path / "run")
    assert (out.frames == pipe(PROMPT, seed=345, settings=small_changes()).frames).all()


def test_output_types(pipe: Show1Pipeline) -> None:
    options: dict[str, Any] = {"seed": 1, "settings": small_changes(), "until": "keyframes"}
    video = pipe(PROMPT, **options)
    array, tensor, images = (pipe(PROMPT, output_type=kind, **options) for kind in ("np", "pt", "pil"))
    assert (array == video.frames).all()
    assert tensor.shape == (3, 3, 8, 16)
    assert (Video.from_tensor(tensor, fps=2).frames == video.frames).all()
    assert isinstance(images[0], Image.Image)
    assert (np.asarray(images[2]) == video.frames[2]).all()


def test_seeds(pipe: Show1Pipeline) -> None:
    options: dict[str, Any] = {"settings": small_changes(), "until": "keyframes"}
    random = pipe(PROMPT, **options)
    assert (pipe(PROMPT, seed=random.metadata["seed"], **options).frames == random.frames).all()
    assert pipe(PROMPT, **options).metadata["seed"] != random.metadata["seed"]
    one, two = (pipe(PROMPT, generator=torch.Generator().manual_seed(5), **options) for _ in range(2))
    assert (one.frames == two.frames).all()
    many = pipe(PROMPT, count=2, generator=[torch.Generator().manual_seed(i) for i in (5, 6)], **options)
    assert many[0].metadata["seed"] == one.metadata["seed"] != many[1].metadata["seed"]
    assert [v.metadata["seed"] for v in pipe(PROMPT, seed=[8, 2], count=2, **options)] == [8, 2]
    first, second = (v.metadata["seed"] for v in pipe(PROMPT, count=2, **options))
    assert second == first + 1
    assert (pipe(PROMPT, seed=1, negative_prompt=" ", **options).frames == pipe(PROMPT, seed=1, **options).frames).all()


def test_numbers_of_other_libraries(pipe: Show1Pipeline) -> None:
    def request(**options: Any) -> GenerationRequest:
        return make_request(PROMPT, model=pipe, **options)

    assert request(seed=np.int64(5), count=np.int32(2), num_keyframes=np.uint8(3)) == request(
        seed=5, count=2, num_keyframes=3
    )
    assert request(seed=np.array([5, 7]), count=2).seeds == request(seed=torch.tensor([5, 7]), count=2).seeds == (5, 7)
    changes = {"keyframes": {"num_inference_steps": np.int64(3), "guidance_scale": np.float32(2)}}
    asked = request(settings=changes, seed=torch.tensor(5))
    assert json.loads(json.dumps(asked.to_dict())) == asked.to_dict()
    with pytest.raises(InputError, match="a seed must be a whole number"):
        request(seed=np.float64(5))


def test_where_and_how_precisely_it_computes_can_be_changed(published: Path) -> None:
    options: dict[str, Any] = {"memory": "high", "device": "cpu", "dtype": "float64", "cache_embeddings": False}
    pipe = Show1Pipeline.from_pretrained(published, **options)
    assert pipe.dtype == torch.float64
    options = {"seed": 1, "settings": small_changes(), "until": "keyframes"}
    assert pipe(PROMPT, **options).metadata["dtype"] == "float64"
    assert pipe.to("float32", "cpu") is pipe and pipe.loaded == ()
    assert pipe.to(dtype="bfloat16", device="cpu").dtype == torch.bfloat16
    assert pipe.to(dtype=torch.float32).dtype == torch.float32
    assert pipe(PROMPT, **options).metadata["dtype"] == "float32" and pipe.loaded == ("text", "keyframes")
    assert repr(pipe) == f"<Show1Pipeline {published.name}: {', '.join(ALL)}; cpu float32>"
    for place in ("float8", "gpu", 3):
        with pytest.raises(InputError):
            pipe.to(place)  # type: ignore[arg-type]


def test_what_is_no_request_and_no_model(pipe: Show1Pipeline) -> None:
    for call, said in (
        (lambda: pipe.generate({"prompts": ["x"]}), "request must be a GenerationRequest"),  # type: ignore[call-overload]
        (lambda: make_request(PROMPT, model="mini"), r"from_pretrained\('mini'\), got 'mini'"),  # type: ignore[arg-type]
        (lambda: Show1Pipeline.from_pretrained("mini", dtype="float8"), "dtype must be one of float32"),
        (lambda: Show1Pipeline.from_pretrained("mini", dtype=torch.int32), "dtype must be one of float32"),
        (lambda: Show1Pipeline.from_pretrained("mini", stages=[]), "stages must be a list of some of keyframes"),
        (lambda: Show1Pipeline.from_pretrained({}), "the mapping of stages is empty"),
        (lambda: Show1Pipeline.from_pretrained(3), "model must be a name"),  # type: ignore[arg-type]
        (lambda: Callbacks(on_step_end=3), "on_step_end must be a function"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError, match=said):
            call()


def test_negative_prompt_and_settings_reach_the_stages(pipe: Show1Pipeline) -> None:
    options: dict[str, Any] = {"seed": 1, "until": "keyframes"}
    plain = pipe(PROMPT, settings=small_changes(), **options)
    negative = pipe(PROMPT, settings=small_changes(), negative_prompt="a cat", **options)
    assert (plain.frames != negative.frames).any()
    assert negative.metadata["settings"]["translation"]["negative_prompt"] == "a cat"
    whole = pipe(PROMPT, settings=small_settings(), **options)
    assert (plain.frames == whole.frames).all()


def test_each_prompt_may_have_its_own_negative_prompt(exact: Show1Pipeline, tmp_path: Path) -> None:
    options: dict[str, Any] = {"settings": small_changes(), "until": "keyframes", "output_type": "pt"}
    prompts = ["a panda", "a cat jumps"]
    both = exact(prompts, negative_prompt=["blur", "snow"], seed=[1, 2], run=tmp_path / "run", **options)
    for index, (prompt, negative) in enumerate(zip(prompts, ["blur", "snow"], strict=True)):
        single = exact(prompt, negative_prompt=negative, seed=index + 1, **options)
        torch.testing.assert_close(both[index], single)
    assert (both[0] - exact(prompts, negative_prompt="snow", seed=[1, 2], **options)[0]).abs().max() > 1e-3
    videos = exact.resume(tmp_path / "run")
    assert [v.metadata["settings"]["translation"]["negative_prompt"] for v in videos] == ["blur", "snow"]
    request = Run.open(tmp_path / "run").request
    assert request is not None and GenerationRequest.from_dict(request.to_dict()) == request
    picked = Run.open(tmp_path / "run").pick(1)
    assert picked.request is not None and picked.request.settings.keyframes.negative_prompt == "snow"
    with pytest.raises(RunError, match="with negative_prompts"):
        exact(prompts, negative_prompt=["blur", "fog"], seed=[1, 2], run=tmp_path / "run", **options)


def test_text_states_may_be_given(pipe: Show1Pipeline, tmp_path: Path) -> None:
    options: dict[str, Any] = {"seed": 1, "settings": small_changes(), "until": "interpolation", "output_type": "pt"}
    request = make_request("a panda", model=pipe, seed=1, settings=small_changes(), until="interpolation")
    texts = pipe.encode(request)
    assert list(texts) == ["keyframes", "interpolation"]
    assert torch.equal(pipe("a panda", prompt_embeds=texts, **options), pipe("a panda", **options))
    assert not torch.equal(pipe("a cat", prompt_embeds=pipe.encode(request), **options), pipe("a cat", **options))
    wrong = {**texts, "keyframes": dataclasses.replace(texts["keyframes"], prompt_embeds=torch.zeros(2, 77, 32))}
    for given, said in (
        ({"keyframes": texts["keyframes"]}, "prompt_embeds must be a mapping of keyframes, interpolation to Prompt"),
        (wrong, r"must be floating-point of shape \(1, L, D\), got torch.float32 of shape \(2, 77, 32\)"),
    ):
        with pytest.raises(InputError, match=said):
            pipe("a panda", prompt_embeds=given, **options)
    with pytest.raises(InputError, match="a run folder cannot keep"):
        pipe("a panda", prompt_embeds=texts, run=tmp_path / "run", **options)


def test_prompts_are_cleaned_as_published(pipe: Show1Pipeline) -> None:
    options: dict[str, Any] = {"seed": 1, "until": "keyframes"}
    lower = pipe("a panda", settings=small_changes(), **options)
    assert (pipe("  A Panda ", settings=small_changes(), **options).frames == lower.frames).all()
    raw = pipe("  A Panda ", settings={**small_changes(), "clean_prompt": "none"}, **options)
    assert (raw.frames != lower.frames).any()


def test_a_long_prompt_warns_of_what_is_cut(pipe: Show1Pipeline, caplog: pytest.LogCaptureFixture) -> None:
    prompt = "a panda " * 60 + "over the snow"
    (warning, *_) = pipe.prompt_warnings(prompt)
    assert "longer than 77 tokens" in warning
    assert "over the snow" in warning and len(warning) < 250
    pipe(prompt, seed=1, settings=small_changes(), until="keyframes")
    assert warning in caplog.text
    assert pipe.prompt_warnings("a panda") == []
    assert any("does not know '☃'" in w for w in pipe.prompt_warnings("a ☃"))


def test_warnings_are_about_what_each_stage_is_told(pipe: Show1Pipeline) -> None:
    long = "a panda " * 60
    own = make_request("a panda", model=pipe, seed=1, settings={"translation": {"prompt": long}})
    (warning,) = pipe.request_warnings(own)
    assert "longer than 77 tokens" in warning and pipe.request_warnings(own, ["keyframes"]) == []
    other = make_request(long, model=pipe, seed=1, settings={"translation": {"prompt": "a panda"}})
    assert pipe.request_warnings(other, ["translation"]) == [] != pipe.request_warnings(other)


CLIP = Video(frames=torch.zeros(2, 8, 8, 3, dtype=torch.uint8).numpy(), fps=8.0)

BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt is empty"),
    ({"prompt": ["a", "  "]}, "prompt is empty"),
    ({"prompt": []}, "list of texts"),
    ({"prompt": 5}, "got 5"),
    ({"prompt": ["a", None]}, "prompt must be text, got None"),
    ({"count": 0}, "count must be"),
    ({"num_keyframes": 0}, "num_frames must be from 1 to 1024, got 0"),
    ({"num_keyframes": 2.5}, "num_keyframes must be a whole number"),
    ({"seed": -1}, "seed must be"),
    ({"seed": 1.5}, "seed must be"),
    ({"seed": [1, 2], "count": 3}, "2 seeds for 3 samples"),
    ({"seed": [1, 2]}, "2 seeds for 1 sample .*or `count`"),
    ({"seed": 1, "generator": torch.Generator()}, "not both"),
    ({"generator": "me"}, "torch.Generator"),
    ({"negative_prompt": 5}, "negative_prompt must be text"),
    ({"negative_prompt": ["a", "b"]}, "2 negative prompts for 1 prompts"),
    ({"negative_prompt": [5]}, "negative_prompt must be text"),
    ({"expert_prompt": 5}, "expert_prompt must be text, or a list of texts, got 5"),
    ({"expert_prompt": ["a", "b"]}, "2 expert prompts for 1 prompts"),
    ({"settings": {"keyframes": {"height": 3}}}, "height must be"),
    ({"settings": {"keyframes": {"height": 9}}}, "the settings of keyframes cannot work: .*multiples of 2, got 9x"),
    ({"settings": {"translation": {"num_inference_steps": 1}}}, "the settings of translation cannot work: all 1 steps"),
    ({"settings": {"keyframes": {"num_frames": 1024, "height": 4096, "width": 4096}}}, "68.7 billion pixels"),
    ({"settings": {"keyframes": {"speed": 3}}}, "unknown keyframes option 'speed'"),
    ({"settings": {"keyframe": {}}}, "unknown stage 'keyframe'"),
    ({"settings": {"keyframes": 3}}, "mapping of options"),
    ({"settings": {"keyframes": {"num_inference_steps": "many"}}}, "num_inference_steps must be a whole"),
    ({"settings": {"keyframes": {"num_inference_steps": 1500}}}, "num_inference_steps must be from 1 to 1000"),
    ({"settings": {"keyframes": {"fps": 0}}}, "fps must be from 0.01 to 240"),
    ({"settings": {"keyframes": {"fps": float("nan")}}}, "fps must be a finite number"),
    ({"settings": {"keyframes": {"guidance_interval": [0.1]}}}, "guidance_interval must be 2 values"),
    ({"settings": {"keyframes": {"scheduler": "foo"}}}, "scheduler must be one of checkpoint"),
    ({"settings": {"keyframes": {"negative_prompt": 3}}}, "negative_prompt must be text"),
    ({"settings": {"super_resolution": {"window": 1, "stride": 1}}}, "window must be from 2 to 1024"),
    ({"settings": {"super_resolution": {"window": 8.5}}}, "window must be a whole number"),
    ({"settings": {"interpolation": {"keep_keyframes": "maybe"}}}, "keep_keyframes must be yes or no"),
    ({"prompt": "caf\udce9"}, "not UTF-8"),
    ({"settings": {"max_text_tokens": 1}}, "max_text_tokens must be from 2 to 512, got 1"),
    ({"settings": {"clean_prompt": "upper"}}, "clean_prompt must be one of lower, none"),
    ({"settings": 5}, "settings must be"),
    ({"until": "end"}, "until must be one of"),
    ({"start_from": "interpolation"}, "needs `video`"),
    ({"start_from": "translation", "until": "keyframes"}, "comes before"),
    ({"video": torch.zeros(3, 2, 8, 8)}, "only for start_from="),
    ({"start_from": "interpolation", "video": torch.zeros(4, 8, 8)}, r"\(3, F, H, W\)"),
    ({"start_from": "interpolation", "video": 5}, "must be a Video"),
    (
        {"start_from": "interpolation", "video": [CLIP, dataclasses.replace(CLIP, fps=24.0)], "count": 2},
        "have 8, 24 frames per",
    ),
    ({"start_from": "interpolation", "video": []}, "must be a Video"),
    ({"start_from": "interpolation", "video": ""}, "video must be a path"),
    ({"start_from": "interpolation", "video": torch.full((3, 2, 8, 8), math.nan)}, "not finite"),
    ({"start_from": "interpolation", "video": torch.full((3, 2, 8, 8), 255.0)}, "up to 255; scale them to -1 to 1"),
    ({"seed": 10**400}, r"a seed must be a whole number from 0 to \d+, got 10000"),
    ({"seed": 10**5000}, "got a very large int"),
    ({"seed": 1 << 32, "numerics": "published"}, "from 0 to 2\\*\\*32 - 1"),
    ({"prompt": b"a panda"}, "prompt must be text or a list of texts, got b'a panda'"),
    ({"callbacks": print}, "callbacks must be `show1.Callbacks`"),
    ({"callbacks": {}}, "callbacks must be `show1.Callbacks`"),
    ({"run": 3}, "run must be a path, got 3"),
    ({"run": ""}, "run must be a path, got ''"),
    ({"run": "a\0b"}, "run must be a path"),
    ({"num_inference_steps": 3}, "is a setting of a stage: give settings={'keyframes': {'num_inference_steps'"),
    ({"guidance": 3}, "an option must be one of count, .*, got 'guidance'"),
    ({"start_from": "interpolation", "video": torch.zeros(3, 3, 2, 8, 8)}, "3 videos for 1 samples"),
    ({"numerics": "lucky"}, "numerics must be"),
    ({"numerics": "published", "count": 2}, "one video at a time"),
    ({"output_type": "gif"}, "output_type must be"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_input(pipe: Show1Pipeline, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        pipe(**{"prompt": PROMPT, **arguments})


def test_stages_that_the_model_lacks(published: Path) -> None:
    pipe = Show1Pipeline.from_pretrained(published, stages=["keyframes", "translation"], device="cpu")
    assert pipe.stages == ("keyframes", "translation")
    with pytest.raises(InputError, match=r"lacks the stage 'interpolation'"):
        pipe(PROMPT, settings=small_changes())
    assert len(pipe(PROMPT, seed=1, settings=small_changes(), until="keyframes")) == 3
    with pytest.raises(InputError, match="unknown stage 'upscale'"):
        Show1Pipeline.from_pretrained(published, stages=["upscale"])  # type: ignore[list-item]


@pytest.mark.parametrize(("options", "said"), [({"device": "abacus"}, "unknown device"), ({"memory": "all"}, "memory")])
def test_bad_places(published: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Show1Pipeline.from_pretrained(published, **options)


def test_a_mapping_takes_settings_of_the_cascade_it_takes_a_stage_from(
    published: Path, pipe: Show1Pipeline, tmp_path: Path
) -> None:
    changed = dataclasses.replace(pipe.cascade, settings=small_settings())
    Show1Pipeline(changed, device=pipe.device, dtype=pipe.dtype, memory="low").save_pretrained(tmp_path / "own")
    mixed = Show1Pipeline.from_pretrained(
        {"keyframes": tmp_path / "own", "interpolation": published / "show-1-interpolation"}, device="cpu"
    )
    assert mixed.settings.keyframes == small_settings().keyframes
    assert mixed.settings.interpolation == PUBLISHED.interpolation
    assert len(mixed("a panda", seed=1, settings={"interpolation": {"num_inference_steps": 2}})) == 9


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # rounds to 10 bits
    options: dict[str, Any] = {"seed": 1, "settings": small_changes(), "until": "keyframes", "output_type": "pt"}
    places = [{"device": "cpu"}, {"device": "cuda", "dtype": torch.float32}]
    on_cpu, on_gpu = (Show1Pipeline.from_pretrained(published, **place)(PROMPT, **options) for place in places)
    torch.testing.assert_close(on_cpu, on_gpu, atol=2e-2, rtol=0)
