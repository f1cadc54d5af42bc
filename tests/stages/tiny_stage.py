"""A stub network and inputs for the stages' tests."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from show1.stages import PromptEmbeddings


class TinyUNet(nn.Module):
    """Smooth in everything, with the pixel UNet's interface; remembers its inputs."""

    config = SimpleNamespace(cross_attention_dim=5)

    def __init__(self, in_channels: int, out_channels: int = 6) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv3d(in_channels, out_channels, 3, padding=1)
            self.text = nn.Linear(5, out_channels)
        self.dropout = nn.Dropout(0.5)
        self.calls: list[tuple[Tensor, Tensor | None]] = []
        self.orders: list[bool] = []

    device = property(lambda self: self.conv.weight.device)
    dtype = property(lambda self: self.conv.weight.dtype)

    def use_published_order(self, on):
        self.orders.append(on)

    def encode_text(self, embeds):
        return self.text(embeds.mean(dim=1))[:, :, None, None, None]

    def forward(self, sample, timestep, *, class_labels=None, text_cache, return_dict):
        assert not return_dict and len(text_cache) == len(sample)
        self.calls.append((sample.clone(), class_labels))
        return (torch.tanh(self.dropout(self.conv(sample)) + text_cache + timestep / 1000),)


SCHEDULER = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "thresholding": True,
    "sample_max_value": 1.5,
}
ANCESTRAL = {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


def two_prompts() -> PromptEmbeddings:
    """Random text states."""
    generator = torch.Generator().manual_seed(1)
    positive, negative = (torch.randn(2, 4, 5, generator=generator) for _ in range(2))
    return PromptEmbeddings(prompt_embeds=positive, negative_prompt_embeds=negative)


def one(prompts: PromptEmbeddings, i: int) -> PromptEmbeddings:
    """The i-th prompt alone."""
    return PromptEmbeddings(
        prompt_embeds=prompts.prompt_embeds[i : i + 1],
        negative_prompt_embeds=prompts.negative_prompt_embeds[i : i + 1],
    )


def clip(batch: int, frames: int, height: int = 8, width: int = 12) -> Tensor:
    """Random pixels."""
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(2)) * 2 - 1
