"""Weights in fewer bits: what is refused, what it takes, and how far off the results are."""

import importlib.util
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import T5Config, T5EncoderModel

from show1 import Show1Pipeline, make_request
from show1.checkpoints.loading import load_unet
from show1.checkpoints.storage import Storage
from show1.errors import InputError, MissingDependencyError
from show1.networks import UNet3DConditionModel
from show1.runtime.plan import ways
from show1.stages.needs import text_need
from show1.text.encoder import load_text_encoder
from tests.networks.tiny_unet import SIMPLE, inputs, run
from tests.published_layout import small_changes

CPU = torch.device("cpu")
PROMPT = "a burning lamborghini driving on rainbow."
HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
needs_bitsandbytes = pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes is not installed")


@pytest.mark.parametrize("text", ["int3", "fp8,fp8", "int4,int8", "", "fp8;int4", 8])
def test_what_is_no_storage(text: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="storage must be fp8"):
        Storage.read(text)


def test_storage_is_read_and_shown_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Storage.read(None) == Storage() and str(Storage()) == ""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    for text in ("fp8", "int8", "fp8,int4"):
        assert str(Storage.read(text)) == text
    assert Storage.read(" int4 , fp8 ") == Storage("fp8", "int4")


def test_without_bitsandbytes_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        MissingDependencyError, match=r"storage int4 needs bitsandbytes: pip install 'show1\[quantize\]'"
    ):
        Storage.read("int4")
    assert Storage.read("fp8") == Storage("fp8")


@pytest.mark.parametrize(
    ("storage", "networks", "text", "dtype", "said"),
    [
        (Storage("fp8"), "mps", "cpu", torch.float16, "mps has no 8-bit floats"),
        (Storage(None, "int4"), "cpu", "mps", torch.float16, "bitsandbytes computes on cpu and cuda, not on mps"),
        (Storage("fp8"), "cpu", "cpu", torch.float64, "does not go with"),
    ],
)
def test_devices_and_precisions_that_cannot(
    storage: Storage, networks: str, text: str, dtype: torch.dtype, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        storage.check([torch.device(networks)], torch.device(text), dtype)
    Storage().check([torch.device(networks)], torch.device(text), dtype)


def difference(made: torch.Tensor, exact: torch.Tensor) -> float:
    """Relative to the exact numbers, root mean square."""
    return float((made.float() - exact.float()).norm() / exact.float().norm())


def test_fp8_takes_half_of_the_weights_and_changes_a_little(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = UNet3DConditionModel(**SIMPLE).eval()
    network.save_pretrained(tmp_path)
    options: dict[str, Any] = {"dtype": torch.bfloat16, "device": CPU}
    exact, smaller = load_unet(tmp_path, **options), load_unet(tmp_path, **options, fp8=True)
    assert smaller.dtype == torch.bfloat16
    taken = sum(p.nbytes for p in smaller.parameters()) / sum(p.nbytes for p in exact.parameters())
    assert 0.5 < taken < 0.7
    given = {k: v.bfloat16() if v.is_floating_point() else v for k, v in inputs(exact).items()}
    assert 0.001 < difference(run(smaller, given), run(exact, given)) < 0.1


def test_a_cascade_in_fp8_is_planned_recorded_and_resumed(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("show1.generation.memory.taken_memory", lambda _: 0)
    monkeypatch.setattr("show1.generation.memory.CPU_SCRATCH", 0)
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "cache_embeddings": False}
    exact = Show1Pipeline.from_pretrained(published, **options)
    smaller = Show1Pipeline.from_pretrained(published, **options, storage="fp8")
    request = make_request(PROMPT, model=exact, seed=5, settings=small_changes(), until="interpolation")
    needs = {name: (exact.needs(request)[name], smaller.needs(request)[name]) for name in request.stages}
    assert all(less.weights < whole.weights and less.row == whole.row for whole, less in needs.values())

    (video,) = smaller.generate(request.up_to("keyframes"), tmp_path / "run")
    assert video.metadata["storage"] == "fp8"
    for place in ({"dtype": "float64"}, {"device": "cpu,text=cpu:1", "dtype": torch.float64}):
        with pytest.raises(InputError, match="storage fp8 is an approximation, which dtype='float64' does not go with"):
            smaller.to(**place)  # type: ignore[arg-type]
    assert smaller.dtype == torch.float32 and smaller.devices.own == {}
    with caplog.at_level(logging.WARNING):
        exact.generate(request, tmp_path / "run")
    assert "The run began with storage fp8 and is resumed with as computed" in caplog.text


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 with the shape of the published one, at an eighth of its width, and random weights."""
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    config = T5Config(
        d_model=512, d_ff=1280, d_kv=64, num_heads=8, num_layers=3, vocab_size=100, feed_forward_proj="gated-gelu"
    )
    T5EncoderModel(config).save_pretrained(folder / "text_encoder")
    return folder


@needs_bitsandbytes
@pytest.mark.parametrize(("kind", "share", "error"), [("int8", 0.52, 0.05), ("int4", 0.37, 0.2)])
def test_a_text_encoder_in_fewer_bits(t5: Path, kind: Any, share: float, error: float) -> None:
    options: dict[str, Any] = {"dtype": torch.bfloat16, "device": CPU}
    exact = load_text_encoder(t5 / "text_encoder", **options)
    smaller = load_text_encoder(t5 / "text_encoder", **options, stored=kind)
    tokens = torch.arange(1, 40)[None]
    with torch.no_grad():
        pair = [model(input_ids=tokens, attention_mask=torch.ones_like(tokens))[0] for model in (smaller, exact)]
    assert 0.001 < difference(*pair) < error
    need, whole = (text_need(t5, 77, dtype=torch.bfloat16, stored=stored) for stored in (kind, None))
    taken = {id(p): p for p in smaller.parameters()}.values()
    scales = sum(m.state.SCB.nbytes for m in smaller.modules() if getattr(m, "state", None) is not None)
    assert need.weights == pytest.approx(
        sum(p.nbytes for p in taken) + scales, rel=0.1
    )  # scales of 4 bits are not seen
    assert need.weights / whole.weights < share
    assert next(iter(ways(need))).peak < next(iter(ways(whole))).peak
    assert not any(type(module) is nn.Linear for module in smaller.modules())
