"""Each method learns, moves the weights that it should and no others, and puts into the adapter what it learned."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from show1.adapters.adapter import Adapter
from show1.checkpoints.loading import load_unet
from show1.checkpoints.locate import resolve
from show1.errors import InputError, MissingDependencyError
from show1.training.customization import CustomizationConfig, customize
from show1.training.customization.augment import random_hue
from show1.training.customization.run import make_task
from show1.training.customization.task import CustomizationTask
from show1.training.optimizer import make_optimizer

MOVES = {
    "temporal_attention": r"temp_attentions",
    "residual_vector": r"temp_attentions",
    "lora": r"temp_attentions|attentions\.\d+\.(to_[qkv]|to_out)",
    "spatial_lora": r"(?<!temp_)attentions\.\d+\.(to_[qkv]|to_out|add_)",
}


def job(tmp_path: Path, cascade: Path, clip: Path, method: str, **options: Any) -> CustomizationConfig:
    return CustomizationConfig.from_dict(
        {
            "kind": "style" if method == "spatial_lora" else "motion",
            "output": str(tmp_path / "out.safetensors"),
            "model": str(cascade),
            "method": method,
            "video": [str(clip)],
            "prompt": ["a cat jumps"],
            "name": "sketch" if method == "spatial_lora" else "",
            "learning_rate": 1e-2,
            "batch_size": 2,
            "inversion_steps": 0,
            "rank": 8,
            **options,
        }
    )


def made(config: CustomizationConfig) -> CustomizationTask:
    return make_task(config, resolve(config.model, stages=(config.stage,)), torch.device("cpu"))


def learning_in(task: CustomizationTask) -> list[str]:
    return [name for name, parameter in task.named_parameters() if parameter.requires_grad]


def mean_loss(task: CustomizationTask, index: Tensor, draws: int = 6) -> float:
    losses = []
    for seed in range(draws):
        torch.manual_seed(seed)
        with torch.no_grad():
            losses.append(float(task({"index": index})["loss"]))
    return sum(losses) / draws


def learn(config: CustomizationConfig, task: CustomizationTask, steps: int) -> None:
    optimizer, batches = make_optimizer(task, config.loop), task.batches(0, 1, 0)
    task.train()
    for step in range(steps):
        torch.manual_seed(1000 + step)
        task(next(batches))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("method", list(MOVES))
def test_a_method_learns_by_its_own_weights(tmp_path: Path, cascade: Path, clip: Path, method: str) -> None:
    batch_size, learning_rate, steps = (2, 2e-2, 16) if "lora" in method else (4, 1e-2, 25)
    work = job(tmp_path, cascade, clip, method, batch_size=batch_size, learning_rate=learning_rate)
    task = made(work)
    index = torch.zeros(batch_size, dtype=torch.long)
    before = {name: value.clone() for name, value in task.unet.state_dict().items()}
    first = mean_loss(task, index)
    learn(work, task, steps)
    assert mean_loss(task, index) < 0.98 * first  # of the same noise
    after = task.unet.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(re.search(MOVES[method], name) for name in moved)
    learning = {name.removeprefix("unet.") for name in learning_in(task)}
    assert moved <= learning
    assert all(".lora_" in name for name in moved) == ("lora" in method)
    check_adapter(task, cascade)


def check_adapter(task: CustomizationTask, cascade: Path) -> None:
    """The base network with the adapter computes what the network that learned does (without its spatial path)."""
    task.eval()
    folder = cascade / "keyframes" / "unet"
    plain = load_unet(folder, dtype=torch.float32, device="cpu")
    adapted = load_unet(folder, dtype=torch.float32, device="cpu", deltas=task.adapter().deltas())
    x, t, text = torch.randn(1, 3, 3, 8, 16), torch.tensor([500]), task._held("text")[:1]
    with torch.no_grad():
        wanted, untouched = task.unet(x, t, text).sample, plain(x, t, text).sample
        assert_close(adapted(x, t, text).sample, wanted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(wanted, untouched, atol=1e-3)


def test_convolutions_over_pixels_learn_if_asked(tmp_path: Path, cascade: Path, clip: Path) -> None:
    work = job(tmp_path, cascade, clip, "spatial_lora", convolutions=True)
    task = made(work)
    learn(work, task, 3)
    deltas = task.adapter().deltas()
    for part in ("conv_in", "conv_out", "resnets.0.conv2", "attentions.0.to_q"):
        assert any(part in name and bool(delta.any()) for name, delta in deltas.items()), part
    assert not any("temp_" in name for name in deltas)
    check_adapter(task, cascade)


def test_noise_levels_may_be_preferred(tmp_path: Path, cascade: Path, clip: Path) -> None:
    for logit, low, high in (((4.0, 0.1), 950, 1000), ((-4.0, 0.1), 0, 50)):
        task = made(job(tmp_path, cascade, clip, "lora", timestep_logit=logit))
        drawn = torch.cat([task.predict(task.inputs(torch.tensor([0, 0]))).t for _ in range(5)])
        assert bool(((drawn >= low) & (drawn < high)).all())


def test_clips_may_be_shown_in_other_colours(tmp_path: Path, cascade: Path, clip: Path) -> None:
    plain = made(job(tmp_path / "plain", cascade, clip, "lora")).inputs(torch.tensor([0])).x0
    task = made(job(tmp_path / "changed", cascade, clip, "lora", random_hue=0.5))
    shown = torch.cat([task.inputs(torch.tensor([0, 0])).x0 for _ in range(8)])
    assert shown.shape[1:] == plain.shape[1:] and len(torch.unique(shown, dim=0)) > 8


def test_colours_turn_round_grey() -> None:
    grey = torch.linspace(-1, 1, 8).view(1, 1, 1, 2, 4).expand(4, 3, 2, 2, 4)
    assert_close(random_hue(grey, 1.0), grey)
    red = torch.tensor([0.6, -0.2, -0.4]).view(1, 3, 1, 1, 1).expand(64, 3, 1, 1, 1)
    torch.manual_seed(0)
    turned = random_hue(red, 1.0)
    assert_close(turned.sum(1), red.sum(1))
    assert_close(turned.norm(dim=1), red.norm(dim=1))
    assert len(torch.unique(turned, dim=0)) == 64
    some = (random_hue(red, 0.25) == red).flatten(1).all(1).float().mean()
    assert 0.55 < some < 0.95
    assert torch.equal(random_hue(red, 0.0), red)


def test_an_adapter_that_learned_nothing_changes_nothing(tmp_path: Path, cascade: Path, clip: Path) -> None:
    for method in MOVES:
        adapter = made(job(tmp_path / method, cascade, clip, method)).adapter()
        assert all(not delta.any() for delta in adapter.deltas().values())


def test_the_spatial_path_learns_single_frames_and_is_thrown_away(tmp_path: Path, cascade: Path, clip: Path) -> None:
    task = made(job(tmp_path, cascade, clip, "lora", batch_size=1))
    kinds = set()
    for seed in range(8):
        torch.manual_seed(seed)
        task({"index": torch.tensor([0])})["loss"].backward()
        learned = {name for name, p in task.named_parameters() if p.grad is not None}
        kinds.add(tuple(sorted({"temporal" if "temp_" in name else "spatial" for name in learned})))
        task.zero_grad()
    assert kinds == {("temporal",), ("spatial",)}
    assert all("temp_attentions" in name for name in task.adapter().tensors)


def test_attention_alone(tmp_path: Path, cascade: Path, clip: Path) -> None:
    whole = made(job(tmp_path / "a", cascade, clip, "temporal_attention"))
    part = made(job(tmp_path / "b", cascade, clip, "temporal_attention", layers="attention"))
    assert set(learning_in(part)) < set(learning_in(whole))
    assert all(re.search(r"attn[12]\.to_(q|k|v|out)", name) for name in learning_in(part))
    assert any("ff.net" in name for name in learning_in(whole))


@pytest.mark.parametrize("method", ["temporal_attention", "lora"])
def test_gradient_checkpointing_changes_nothing(tmp_path: Path, cascade: Path, clip: Path, method: str) -> None:
    gradients = []
    for on in (False, True):
        task = made(job(tmp_path / str(on), cascade, clip, method, gradient_checkpointing=on))
        for seed in range(3):  # spatial and temporal steps
            torch.manual_seed(seed)
            task({"index": torch.tensor([0])})["loss"].backward()
        gradients.append([p.grad for p in task.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for plain, checkpointed in zip(*gradients, strict=True):
        assert_close(plain, checkpointed, rtol=1e-4, atol=1e-6)


def test_eight_bits_without_the_package(
    tmp_path: Path, cascade: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes.optim", None)
    work = job(tmp_path, cascade, clip, "temporal_attention", optimizer="adamw8bit")
    with pytest.raises(MissingDependencyError, match="pip install bitsandbytes, or use adamw"):
        make_optimizer(made(work), work.loop)


def test_several_processes_are_refused(
    tmp_path: Path, cascade: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="runs in one process"):
        customize(job(tmp_path, cascade, clip, "lora"))


def test_a_saved_adapter_is_the_same(tmp_path: Path, cascade: Path, clip: Path) -> None:
    work = job(tmp_path, cascade, clip, "lora")
    task = made(work)
    learn(work, task, 2)
    file = task.adapter().save(tmp_path / "a.safetensors")
    again = Adapter.load(file)
    assert again.lora_alpha == 8.0 and again.method == "lora"
    assert all(torch.equal(again.tensors[name], value) for name, value in task.adapter().tensors.items())
