"""Trainings that take seconds: small networks, small clips. As a script, a training in a process of its own.

python -m tests.training.tiny_training CONFIG.json
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from show1.data.clips import ClipSource, ClipView
from show1.data.folder import ClipFolder
from show1.diffusion import add_noise
from show1.sprites.clips import SpriteClips
from show1.sprites.options import TextOptions
from show1.training import TASKS, KeyframeImagesOptions, TrainingConfig, train
from show1.training.objective import prediction_loss
from show1.training.presets import PRESETS, Preset, preset
from show1.training.tasks.base import Batch, Task, make_task
from show1.training.tasks.distillation_options import DISTILLATIONS
from show1.training.tasks.keyframes import KeyframesTask

_PIXEL: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["ResnetDownsampleBlock3D", "SimpleCrossAttnDownBlock3D"],
    "mid_block_type": "UNetMidBlock3DSimpleCrossAttn",
    "up_block_types": ["SimpleCrossAttnUpBlock3D", "ResnetUpsampleBlock3D"],
    "block_out_channels": [32, 32],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 32,
    "encoder_hid_dim": 32,
    "encoder_hid_dim_type": "text_proj",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "attention_head_dim": 16,
    "temporal_head_dim": 16,
    "resnet_time_scale_shift": "scale_shift",
    "cross_attention_norm": "layer_norm",
}

NETWORKS: dict[str, dict[str, Any]] = {
    "keyframes": _PIXEL | {"embed_frames": True, "embed_places": True},
    "interpolation": _PIXEL | {"in_channels": 7, "embed_frames": True},
    "super_resolution": _PIXEL | {"in_channels": 6, "patch_size": 2, "class_embed_type": "timestep"},
    "translation": {
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
        "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
        "block_out_channels": [32, 32],
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "attention_head_dim": 16,
        "norm_num_groups": 8,
    },
    "vae": preset("mini").network("vae") | {"block_out_channels": [32, 32, 32, 32], "latent_channels": 4},
    "tiny_vae": preset("mini").network("tiny_vae") | {"num_decoder_blocks": [1, 1, 1, 0]},
    "text": preset("mini").network("text") | {"d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2},
}

VIEWS = {
    "keyframe_images": ClipView(num_frames=29, height=8, width=8, window=1),
    "keyframes": ClipView(num_frames=3, height=8, width=8),
    "interpolation": ClipView(num_frames=29, height=8, width=8, window=5, window_stride=4),
    "super_resolution_images": ClipView(num_frames=29, height=16, width=16, window=1, low=(8, 8)),
    "super_resolution": ClipView(num_frames=29, height=16, width=16, window=3, low=(8, 8)),
    "vae": ClipView(num_frames=29, height=32, width=32, window=1),
    "tiny_vae": ClipView(num_frames=29, height=32, width=32, window=1),
    "translation_images": ClipView(num_frames=29, height=32, width=32, window=1),
    "translation": ClipView(num_frames=3, height=32, width=32),
}


class FixedNoiseOptions(KeyframeImagesOptions):
    """Options of a task of our own."""

    implementation: ClassVar[str] = "tests.training.tiny_training:FixedNoiseTask"


class FixedNoiseTask(KeyframesTask):
    """Draws nothing: noise and noise level follow from the clip, so that only the sum over samples matters."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        x0 = batch["video"]
        noise, t = x0.flip(3), torch.full((len(x0),), 500)
        text = self.text(batch["caption"])
        predicted = self.unet(add_noise(x0, noise, t, self.alphas_cumprod), t, text).sample
        loss = prediction_loss(predicted, x0, noise, t, self.alphas_cumprod, prediction=self.prediction)
        return {"loss": loss}


def install(set_item: Callable[[Any, str, Any], None]) -> None:
    """Puts the preset "tiny" in place."""
    set_item(PRESETS, "tiny", Preset(networks=NETWORKS, views=VIEWS, text_tokens=24))


def config(task: str, out: Path, **options: Any) -> TrainingConfig:
    """Options of a small training."""
    defaults: dict[str, Any] = {
        "data": "sprites",
        "network": "tiny",
        "steps": 4,
        "batch_size": 2,
        "warmup_steps": 1,
        "learning_rate": 3e-3,
        "ema_decay": 0.5,
        "log_every": 1,
        "checkpoint_every": 100,
        "sample_every": 0,
    }
    kinds = [TextOptions, *TASKS, *DISTILLATIONS]
    return TrainingConfig.from_dict({"task": task, "out": str(out), **defaults, **options}, kinds)


def clips(config: TrainingConfig) -> ClipSource:
    """The clips of a training."""
    if config.data.startswith("sprites"):
        return SpriteClips.from_spec(config.data, config.loop.seed)
    return ClipFolder(config.data, seed=config.loop.seed)


def run(config: TrainingConfig, **options: Any) -> Path:
    """Trains; gives the export."""
    return train(config.options, config.loop, clips(config), **options)


def made(config: TrainingConfig) -> Task:
    """The task as a training begins with it."""
    torch.manual_seed(config.loop.seed)
    return make_task(config.options, clips(config))


def losses(folder: Path) -> list[tuple[int, float]]:
    """Step and loss of each line of the log."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def exported(folder: Path) -> dict[str, bytes]:
    """The bytes of all exported weights."""
    export = folder / "export"
    return {str(f.relative_to(export)): f.read_bytes() for f in sorted(export.rglob("*.safetensors"))}


INPUTS: dict[str, dict[str, str]] = {
    "text": {},
    "keyframe_images": {"text": "text"},
    "keyframes": {"init": "keyframe_images"},
    "interpolation": {"init": "keyframes"},
    "super_resolution_images": {"text": "text"},
    "super_resolution": {"init": "super_resolution_images", "text": "text"},
    "vae": {},
    "tiny_vae": {"vae": "vae"},
    "translation_images": {"text": "text", "vae": "vae"},
    "translation": {"init": "translation_images", "vae": "vae"},
}
"""What each task starts from."""


class Exports:
    """Trains what is asked for when it is asked for, once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, task: str) -> Path:
        """The export of a task."""
        out = self._folder / task
        if not (out / "export").is_dir():
            with pytest.MonkeyPatch.context() as patch:
                install(patch.setitem)
                run(config(task, out, steps=2, **self.inputs(task)))
        return out / "export"

    def inputs(self, task: str) -> dict[str, Any]:
        """The options that name what a task starts from."""
        return {option: str(self[name]) for option, name in INPUTS[task].items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    install(dict.__setitem__)
    values = json.loads(Path(sys.argv[1]).read_text())
    fixed_noise, pause = values.pop("fixed_noise", False), values.pop("pause", 0.0)
    asked = TrainingConfig.from_dict(values, [FixedNoiseOptions] if fixed_noise else TASKS)
    run(asked, on_log=lambda _: time.sleep(pause))
