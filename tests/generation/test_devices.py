"""Stages on devices of their own. A CPU has one device under any number, so that the whole way can be followed here."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from show1 import Show1Pipeline, make_request
from show1.text.encoder import PromptEncoder
from tests.published_layout import small_changes

PROMPT = "a burning lamborghini driving on rainbow."


def test_each_part_is_loaded_where_it_is_to_compute(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from show1.stages import helping as module
    from show1.text import encoder

    places: dict[str, torch.device] = {}
    load_stage, load_text = module.load_stage, encoder.load_text_encoder

    def stage(name: str, *arguments: Any, **options: Any) -> Any:
        places[name] = options["device"]
        return load_stage(name, *arguments, **options)  # type: ignore[arg-type]

    def text(folder: Path, **options: Any) -> Any:
        places[f"text of {folder.parent.name}"] = options["device"]
        return load_text(folder, **options)

    monkeypatch.setattr(module, "load_stage", stage)
    monkeypatch.setattr(encoder, "load_text_encoder", text)
    options: dict[str, Any] = {"dtype": "float32", "memory": "high", "cache_embeddings": False}
    pipe = Show1Pipeline.from_pretrained(published, device="cpu,text=cpu:1,translation=cpu:2", **options)
    assert "translation on cpu:2" in repr(pipe) and pipe.device == torch.device("cpu")
    video = pipe(PROMPT, seed=3, settings=small_changes(), output_type="pt")
    assert Counter(map(str, places.values())) == {"cpu": 3, "cpu:1": 2, "cpu:2": 1}
    assert places["translation"] == torch.device("cpu:2") and places["keyframes"] == torch.device("cpu")

    pipe.to("cpu")
    assert pipe.devices.own == {}
    torch.testing.assert_close(pipe(PROMPT, seed=3, settings=small_changes(), output_type="pt"), video, rtol=0, atol=0)


def test_a_budget_holds_on_each_device(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("show1.generation.memory.CPU_SCRATCH", 0)
    monkeypatch.setattr("show1.generation.memory.taken_memory", lambda device: asked.append(str(device)) or 0)
    devices = {"text": "cpu:1", "translation": "cpu:2"}
    pipe = Show1Pipeline.from_pretrained(
        published, device=devices, memory="1GB", dtype="float32", cache_embeddings=False
    )
    plan = pipe.plan(make_request(PROMPT, model=pipe, settings=small_changes()))
    assert len(plan) == 6
    assert Counter(asked) == {"cpu": 3, "cpu:1": 2, "cpu:2": 1}


def test_auto_keeps_networks_where_every_device_has_room(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"cpu": 10**12, "cpu:1": 10**12}
    monkeypatch.setattr("show1.runtime.placement.free_memory", lambda device: free[str(device)])

    def policy() -> str:
        return Show1Pipeline.from_pretrained(published, device="cpu,translation=cpu:1", dtype="float32").memory

    assert policy() == "high"
    free["cpu:1"] = 1000
    assert policy() == "low"


def test_a_text_encoder_is_shared_wherever_stages_are(published: Path) -> None:
    pipe = Show1Pipeline.from_pretrained(published, device="cpu,interpolation=cpu:1", dtype="float32")
    assert isinstance(first := pipe._encoder("keyframes"), PromptEncoder)
    assert pipe._encoder("interpolation") is first
