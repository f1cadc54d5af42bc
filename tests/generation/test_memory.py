"""Memory budgets: whatever the plan, the video is the same."""

import dataclasses
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers import UNet3DConditionModel as LatentUNet
from transformers import T5EncoderModel

from show1 import Callbacks, Run, Show1Pipeline, make_request
from show1.errors import InputError, OutOfMemory
from show1.networks import UNet3DConditionModel
from show1.runtime import Devices
from show1.runtime.plan import Need, ways
from show1.runtime.workspaces import with_workspaces
from show1.stages import InterpolationStage
from tests.published_layout import small_changes

PROMPT = "a burning lamborghini driving on rainbow."
STAGES = ("keyframes", "interpolation", "super_resolution", "translation")
SIZES = ("weights", "largest_layer", "row")


@pytest.fixture
def budgeted(published: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Show1Pipeline]:
    """Makes pipelines whose budget is for networks alone, not for the process."""
    monkeypatch.setattr("show1.generation.memory.taken_memory", lambda _: 0)
    monkeypatch.setattr("show1.generation.memory.CPU_SCRATCH", 0)

    def make(memory: Any, **options: Any) -> Show1Pipeline:
        return Show1Pipeline.from_pretrained(
            published, memory=memory, device="cpu", dtype=torch.float64, cache_embeddings=False, **options
        )

    return make


@pytest.mark.slow
def test_the_least_budget_gives_the_same_video(budgeted: Callable[..., Show1Pipeline]) -> None:
    free = budgeted("low")
    request = make_request(PROMPT, model=free, seed=5, settings=small_changes())
    assert free.plan(request) == {} and free.budget is None
    expected = free(PROMPT, seed=5, settings=small_changes(), output_type="pt")
    needs = free.needs(request)
    assert list(needs) == ["the text encoder of keyframes", "the text encoder of translation", *STAGES]

    least = {name: list(ways(need))[-1] for name, need in needs.items()}
    pipe = budgeted(max(way.peak for way in least.values()))
    plan = pipe.plan(request)
    largest = max(least, key=lambda name: least[name].peak)
    assert plan[largest] == least[largest] and plan[largest].streamed
    assert all(way.peak <= (pipe.budget or 0) for way in plan.values())
    pipe._planner.plan = lambda *_, **__: pipe._planner._ways.update(least) or least  # type: ignore[method-assign]
    (out,) = pipe.generate(request, output_type="pt")
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)


def test_a_budget_that_cannot_be_kept_is_refused_before_the_work(budgeted: Callable[..., Show1Pipeline]) -> None:
    pipe = budgeted("50KB")
    with pytest.raises(InputError, match="0.00 GB of memory are not enough for .*allow more"):
        pipe(PROMPT, settings=small_changes())


def test_videos_count_on_a_cpu_and_workspaces_on_a_gpu(budgeted: Callable[..., Show1Pipeline]) -> None:
    pipe = budgeted("low")
    request = make_request([PROMPT, PROMPT], model=pipe, seed=5, settings=small_changes())
    place: dict[str, Any] = {"dtype": torch.float64, "devices": Devices(torch.device("cuda"))}
    alone = pipe._planner.needs(request, None, request.stages, **(place | {"devices": Devices(torch.device("meta"))}))
    on_gpu, on_cpu = pipe._planner.needs(request, None, request.stages, **place), pipe.needs(request)
    sizes = {stage: math.prod(shape) for stage, shape in request.shapes().items()}  # type: ignore[arg-type]
    before = dict(zip(STAGES, [0, *sizes.values()], strict=False))
    for name, need in alone.items():
        kind: Any = "latent" if name == "translation" else "pixel" if name in STAGES else "text"
        assert on_gpu[name] == with_workspaces(need, kind)
        videos = 2 * 3 * 4 * (before[name] + sizes[name]) if name in STAGES else 0
        assert on_cpu[name] == dataclasses.replace(need, beside=videos)
    begin: dict[str, Any] = {"start_from": "translation", "video": torch.zeros(1, 3, 7, 16, 32)}
    later = make_request(PROMPT, model=pipe, settings=small_changes(), **begin)
    height, width = later.input_size
    assert (height, width) == (16, 32)
    assert pipe.needs(later, 7)["translation"].beside == 3 * 4 * 7 * (
        height * width + math.prod(later.final_shape[1:3])
    )


def test_a_text_encoder_whose_texts_are_cached_is_not_counted(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOW1_CACHE", str(tmp_path))
    monkeypatch.setattr("show1.generation.memory.taken_memory", lambda _: 0)
    monkeypatch.setattr("show1.generation.memory.CPU_SCRATCH", 0)
    options: dict[str, Any] = {"device": "cpu", "dtype": torch.float64}
    pipe = Show1Pipeline.from_pretrained(published, memory="40GB", **options)
    asked: dict[str, Any] = {"model": pipe, "seed": 5, "settings": small_changes()}
    request, last = make_request(PROMPT, until="keyframes", **asked), make_request(PROMPT, **asked)
    text, other = "the text encoder of keyframes", "the text encoder of translation"
    assert list(pipe.needs(request)) == list(pipe.plan(request)) == [text, "keyframes"]
    pipe.encode(request)
    assert list(pipe.needs(request)) == list(pipe.plan(request)) == ["keyframes"]
    assert [name for name in pipe.needs(last) if name not in STAGES] == [other]
    avoiding = make_request(PROMPT, until="keyframes", negative_prompt="blur", **asked)
    assert list(pipe.needs(avoiding)) == [text, "keyframes"]
    assert list(pipe.needs(make_request([PROMPT, "a panda"], until="keyframes", **asked))) == [text, "keyframes"]

    least = list(ways(pipe.needs(request)["keyframes"]))[-1].peak
    monkeypatch.setattr("show1.generation.memory.text_need", lambda *_, **__: Need(**dict.fromkeys(SIZES, 9 * least)))
    small = Show1Pipeline.from_pretrained(published, memory=least, **options)
    assert list(small.plan(request)) == ["keyframes"]
    with pytest.raises(InputError, match="not enough for the text encoder of keyframes"):
        small.plan(avoiding)


@pytest.mark.slow
def test_memory_that_runs_out_is_followed_by_another_try(
    budgeted: Callable[..., Show1Pipeline], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = budgeted("low")
    request = make_request(PROMPT, model=pipe, seed=5, settings=small_changes(), until="interpolation")
    (expected,) = pipe.generate(request, output_type="pt")
    forward, rows = UNet3DConditionModel.forward, []

    def limited(self: Any, sample: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        rows.append(len(sample))
        if len(sample) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, sample, *arguments, **options)

    monkeypatch.setattr(UNet3DConditionModel, "forward", limited)
    with caplog.at_level(logging.WARNING):
        (out,) = pipe.generate(request, output_type="pt")
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)
    assert rows[0] == 2 and 1 in rows
    assert "memory ran out in the stage 'keyframes': computed again with less memory" in caplog.text
    assert "guidance in two calls" in caplog.text

    def never(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(UNet3DConditionModel, "forward", never)
    with pytest.raises(OutOfMemory, match="memory ran out in the stage 'keyframes'; use"):
        pipe.generate(request)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "named", "network"),
    [
        ("text", "in the text encoder: computed again with less memory (0.00 GB, 1 sample a call, weights", "T5"),
        ("keyframes", "in the stage 'keyframes': computed again with less memory (", "pixel"),
        ("interpolation", "in the stage 'interpolation': computed again with less memory (", "pixel"),
        ("super_resolution", "in the stage 'super_resolution': computed again with less memory (", "pixel"),
        ("translation", "in the stage 'translation': computed again with less memory (", "latent"),
        ("translation", "in the stage 'translation': computed again with less memory (", "autoencoder"),
    ],
)
def test_memory_may_run_out_in_every_part(
    part: Any,
    named: str,
    network: str,
    budgeted: Callable[..., Show1Pipeline],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    classes: dict[str, Any] = {"T5": T5EncoderModel, "pixel": UNet3DConditionModel, "latent": LatentUNet}
    owner, method = (AutoencoderKL, "decode") if network == "autoencoder" else (classes[network], "forward")
    original, now, began = getattr(owner, method), [""], []

    def failing_once(self: Any, *arguments: Any, **options: Any) -> Any:
        if now[0] == part and began.count(part) == 1:
            began.append(part)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(self, *arguments, **options)

    def begin(stage: str) -> None:
        now[0] = stage
        began.append(stage)

    pipe = budgeted("low")
    last = "keyframes" if part == "text" else part
    request = make_request(PROMPT, model=pipe, seed=5, settings=small_changes(), until=last)
    (expected,) = pipe.generate(request, output_type="pt")
    monkeypatch.setattr(owner, method, failing_once)
    loaded: list[str] = []
    load = pipe._load
    monkeypatch.setattr(pipe, "_load", lambda name: loaded.append(name) or load(name))
    with caplog.at_level(logging.WARNING):
        (out,) = pipe.generate(request, tmp_path / "run", output_type="pt", callbacks=Callbacks(on_stage_start=begin))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)
    assert f"memory ran out {named}" in caplog.text
    again = [part] if part != "text" else []
    assert loaded == [*request.stages, *again]  # the stages before it are not computed again
    run = Run.open(tmp_path / "run")
    assert run.finished_stages == request.stages and not list(run.path.glob(".*.partial"))


@pytest.mark.slow
def test_where_no_plan_is_left_the_finished_stages_are_kept(
    budgeted: Callable[..., Show1Pipeline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = budgeted("low")
    request = make_request(PROMPT, model=pipe, seed=5, settings=small_changes(), until="interpolation")
    (expected,) = pipe.generate(request, output_type="pt")

    def never(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(InterpolationStage, "__call__", never)
        with pytest.raises(OutOfMemory, match="memory ran out in the stage 'interpolation'; use"):
            pipe.generate(request, tmp_path / "run")
    assert Run.open(tmp_path / "run").finished_stages == ("keyframes",)
    (out,) = pipe.resume(tmp_path / "run", output_type="pt")
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)
