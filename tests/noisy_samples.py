"""Clean samples and noise at a few timesteps."""

import torch
from torch import Tensor

from show1.config import Prediction

PREDICTIONS: list[Prediction] = ["epsilon", "v_prediction", "sample"]
T = torch.tensor([0, 1, 40, 500, 980])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clean_and_noise() -> tuple[Tensor, Tensor]:
    return draw(len(T), 3, 2, 4, 4).clamp(-1, 1), draw(len(T), 3, 2, 4, 4, seed=1)
