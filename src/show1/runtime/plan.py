"""Which networks wait where, and how many samples a call computes, so that a memory budget is kept."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from show1.errors import InputError
from show1.options import require

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one part of a cascade takes of memory: a stage's networks, or a text encoder. Sizes are in bytes."""

    weights: int
    """All of its weights."""
    largest_layer: int
    """The weights of its largest layer."""
    row: int
    """Beside the weights, the peak of a network call with one row."""
    samples: int = 1
    """Samples that a call computes if nothing limits them."""
    guided: bool = False
    """Whether a sample takes two rows of a call, for guidance."""
    other: int = 0
    """Beside the weights, the peak of what comes before and after the network's calls, such as decoding."""
    processes: int = 1
    """Processes that share the rows of a call."""
    streamable: bool = True
    """Whether its weights can stay in their files."""
    tiled: int | None = None
    """`other` where an autoencoder works in tiles; None: it cannot."""
    fp8: int | None = None
    """All of its weights where most are kept in 8 bits; None: they cannot."""
    beside: int = 0
    """What is taken beside all this while it is computed, in whatever way: videos, and what kernels take at least."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a part is computed."""

    samples: int
    """Most samples of a network call."""
    split_guidance: bool
    """Whether the halves of guidance are two calls."""
    streamed: bool
    """Whether each layer gets its weights whenever it runs, from the computer's memory (GPU) or the files."""
    peak: int
    """The memory in bytes that it is predicted to take."""
    tiled: bool = False
    """Whether an autoencoder works in tiles."""
    fp8: bool = False
    """Whether most weights are kept in 8 bits."""

    def __str__(self) -> str:
        calls = "guidance in two calls" if self.split_guidance else f"{self.samples} samples a call"
        if self.samples == 1 and not self.split_guidance:
            calls = "1 sample a call"
        more = {"weights layer by layer": self.streamed, "autoencoder in tiles": self.tiled, "fp8 weights": self.fp8}
        return ", ".join([f"{self.peak / 1e9:.2f} GB", calls, *(name for name, holds in more.items() if holds)])


def ways(need: Need) -> Iterator[Way]:
    """The ways to compute a part, the fastest first, each with less memory than the one before."""
    samples, sizes = need.samples, []
    while samples > 1:
        sizes.append((samples, False))
        samples = -(-samples // 2)
    sizes.append((1, False))
    if need.guided:
        sizes.append((1, True))
    least = None
    for weights, other, kind in _kinds(need):
        for samples, split in sizes:
            rows = -(-samples * (2 if need.guided and not split else 1) // need.processes)
            peak = weights + max(rows * need.row, other) + need.beside
            if least is None or peak < least:
                least = peak
                yield Way(samples=samples, split_guidance=split, peak=peak, **kind)


def _kinds(need: Need) -> Iterator[tuple[int, int, dict[str, bool]]]:
    """Where weights and pictures are kept: bytes of the weights, `other`, and how a `Way` says it."""
    weights = [(need.weights, {"streamed": False})]
    if need.streamable:
        weights.append((2 * need.largest_layer, {"streamed": True}))  # a layer's, and those of the next
    if need.fp8 is not None:  # the last resort: it changes the result
        weights.append((need.fp8, {"streamed": False, "fp8": True}))
    for size, how in weights:
        yield size, need.other, how
        if need.tiled is not None:
            yield size, need.tiled, {**how, "tiled": True}


def choose_ways(needs: Mapping[str, Need], budget: int, *, taken: Mapping[str, int] | None = None) -> dict[str, Way]:
    """Chooses the fastest way for each part that keeps to a budget, with one part in memory at a time.

    Args:
        needs: The parts, by name.
        budget: Bytes.
        taken: Bytes that are taken already where a part computes, whatever is computed; None: none are.

    Raises:
        InputError: A part takes more, whatever is done. The size that is named is enough for all parts.
    """
    chosen, least = {}, {}
    for name, need in needs.items():
        known, before = list(ways(need)), 0 if taken is None else taken[name]
        least[name] = before + before // 50 + known[-1].peak  # what is taken differs a little from run to run
        fitting = next((way for way in known if before + way.peak <= budget), None)
        if fitting is not None:
            chosen[name] = fitting
    if len(chosen) < len(needs):
        largest = max(least, key=lambda name: least[name])
        enough = -(-least[largest] // 10**7) / 100  # rounded up, so that it is enough
        raise InputError(
            f"{budget / 1e9:.2f} GB of memory are not enough for {largest}, which takes {enough:.2f} GB at least; "
            "allow more, or ask for fewer frames or a smaller size"
        )
    return chosen


def parse_size(size: object) -> int:
    """Reads a memory budget in bytes: a number of bytes, or text such as "6GB", "800 MB" or "5.5GiB".

    Raises:
        InputError: It is none.
    """
    found: float = 0
    if isinstance(size, int) and not isinstance(size, bool):
        found = size
    elif isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]i?B)\s*", size, re.IGNORECASE)
        found = float(match[1]) * _UNITS[match[2].upper()] if match else 0
    require(1 <= found < 2**63, "memory", size, "'auto', 'low', 'high' or a size such as '6GB'")
    return int(found)
