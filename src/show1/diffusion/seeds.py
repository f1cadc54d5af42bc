"""Sources of random numbers: one generator per (sample, stage, window), always drawn on the CPU in float32.

So a result depends neither on the batch, nor on the device, nor on which stage was resumed.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Seeds(Protocol):
    """Source of a stage's random numbers."""

    def generators(self, stage: str, window: int) -> list[torch.Generator]:
        """Fresh CPU generators, one per sample of the batch (or one for all), for one window of one stage."""
        ...


class IndependentSeeds:
    """An independent stream of numbers for each (sample, stage, window)."""

    def __init__(self, seeds: Sequence[int]) -> None:
        """Takes one seed per sample of the batch."""
        self.seeds = list(seeds)

    def generators(self, stage: str, window: int) -> list[torch.Generator]:
        """Fresh generators, one per sample, seeded from the SHA-256 of "seed/stage/window"."""
        return [_generator(_hash(f"{seed}/{stage}/{window}")) for seed in self.seeds]


class PublishedSeeds:
    """The published run's draws: every window of every stage starts from the same seed.

    One generator serves the whole batch.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generators(self, stage: str, window: int) -> list[torch.Generator]:
        """One fresh generator, seeded alike for all stages and windows."""
        return [_generator(self.seed)]


def randn(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Draws standard normal noise of shape (N, ...) with G generators.

    Args:
        shape: Shape of the noise; N is a multiple of G.
        generators: Each draws the next N / G samples at once.

    Returns:
        Noise (N, ...), float32, on the CPU.
    """
    group = group_size(shape[0], generators)
    return torch.cat([torch.randn(group, *shape[1:], generator=g, dtype=torch.float32) for g in generators])


def group_size(samples: int, generators: Sequence[torch.Generator]) -> int:
    """Samples that each generator draws for.

    Raises:
        ValueError: The samples cannot be shared out evenly.
    """
    if not generators or samples % len(generators):
        raise ValueError(f"{samples} samples cannot be shared out evenly among {len(generators)} generators")
    return samples // len(generators)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _hash(key: str) -> int:
    # torch's CPU generator is seeded by 32 bits
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
