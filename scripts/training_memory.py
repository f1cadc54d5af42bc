"""Counts the memory that trainings take, without taking it: weights on torch's meta device hold no numbers.

python scripts/training_memory.py [PRESET ...] prints the table of docs/train.md.
"""

import sys
from typing import Any

import torch

from show1.data.clips import ClipView
from show1.stage_table import STAGE_TABLE
from show1.training.networks import fresh_latent_unet, fresh_pixel_unet
from show1.training.objective import ask
from show1.training.presets import preset

TEXT_WIDTH = {"mini": 128, "mini-fast": 128, "show-1": 4096}
STAGES = {
    "keyframe_images": "keyframes",
    "keyframes": "keyframes",
    "interpolation": "interpolation",
    "super_resolution_images": "super_resolution",
    "super_resolution": "super_resolution",
    "translation_images": "translation",
    "translation": "translation",
}
"""The stage of each task with a denoising network."""
BYTES_PER_WEIGHT = 4 + 4 + 8 + 4
"""A weight, its gradient, the two moments of AdamW, and its average."""
CROPS = {"super_resolution": (48, 64), "super_resolution_images": (48, 64)}
"""Trainings that learn from crops of the frames."""


def network(name: str, task: str) -> torch.nn.Module:
    """Makes the network of a task on the meta device."""
    stage, config = STAGES[task], preset(name).network(STAGES[task])
    with torch.device("meta"):
        if stage == "translation":
            return fresh_latent_unet(config, 1024 if name == "show-1" else TEXT_WIDTH[name], config["in_channels"])
        return fresh_pixel_unet(config, TEXT_WIDTH[name], temporal=not task.endswith("_images"))


def inputs(unet: Any, view: ClipView, name: str, task: str) -> list[torch.Tensor]:
    """What the network of a task is given for one clip, without numbers."""
    frames = view.window or view.num_frames
    height, width = CROPS.get(task, (view.height, view.width))
    stage = STAGES[task]
    if stage == "translation":
        height, width = height // 8, width // 8
    channels = STAGE_TABLE[stage].in_channels or unet.config.in_channels
    tokens, states = preset(name).text_tokens, 1024 if (stage, name) == ("translation", "show-1") else TEXT_WIDTH[name]
    level = [torch.zeros(1, dtype=torch.long)] if unet.config.get("class_embed_type") else []
    return [
        torch.zeros(1, channels, frames, height, width),
        torch.zeros(1, dtype=torch.long),
        torch.zeros(1, tokens, states),
        *level,
    ]


class FusedAttention(torch.autograd.Function):
    """What fused kernels keep of an attention: not its matrix, which the kernel of the meta device would keep."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
        """Keeps what goes in and what comes out, (B, heads, L, D)."""
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, out)
        return out


def activations(unet: Any, given: list[torch.Tensor]) -> int:
    """Counts the bytes that a forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        alive.append(tensor)
        return tensor

    alive: list[torch.Tensor] = [*unet.parameters()]
    weights = {p.untyped_storage()._cdata for p in unet.parameters()}

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return FusedAttention.apply(query, key, value)  # type: ignore[no-any-return]

    torch.nn.functional.scaled_dot_product_attention = attend
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = ask(unet, *(tensor.to("meta") for tensor in given))
    del out
    return sum(size for storage, size in kept.items() if storage not in weights)


def main(names: list[str]) -> None:
    """Prints a table for each preset."""
    print("| network | task | clip | parameters | weights and optimizer | activations | with checkpointing |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        for task in STAGES:
            view = preset(name).views[task]
            unet: Any = network(name, task)
            given = inputs(unet, view, name, task)
            count = sum(p.numel() for p in unet.parameters())
            unet.train()
            plain = activations(unet, given)
            saved = "not supported"
            if unet._supports_gradient_checkpointing:
                unet.enable_gradient_checkpointing()
                saved = f"{activations(unet, given) / 1e9:.1f} GB"
            shape = "x".join(str(size) for size in given[0].shape[1:])
            sizes = [f"{size / 1e9:.1f} GB" for size in (count * BYTES_PER_WEIGHT, plain)]
            cells = [name, task, shape, f"{count / 1e9:.3f} B", *sizes, saved]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["mini", "show-1"])
