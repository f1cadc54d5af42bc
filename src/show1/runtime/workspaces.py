"""What the kernels of a GPU take beside the tensors that a trace counts: a reserve, derived from measured calls.

The calls were measured on an NVIDIA H200 (2026-11-26, torch 2.11.0, float16; docs/claim.md). `KERNELS` and the shares
are round figures that cover every call of that table, and none by more than a tenth of what it took:

| call | weights, GB | counted, GB | measured, GB | with the reserve, GB |
|---|---:|---:|---:|---:|
| T5-XXL | 9.52 | 9.54 | 9.59 | 9.61 |
| CLIP text | 0.68 | 0.69 | 0.72 | 0.76 |
| keyframes | 3.45 | 3.95 | 4.05 | 4.17 |
| interpolation | 3.45 | 3.77 | 3.87 | 3.94 |
| super-resolution | 1.57 | 3.95 | 4.62 | 4.73 |
| a pixel network at 320x576, 8 frames | 1.57 | 12.25 | 15.10 | 15.52 |
| the same, 29 frames | 1.57 | 40.28 | 48.01 | 51.96 |
| the expert's UNet | 2.82 | 6.36 | 6.42 | 6.61 |
| the decoder of its autoencoder | 0.17 | 0.45 | 0.65 | 0.68 |

What is missing is a few tens of megabytes whatever is computed, and then a share of the activations, which are what is
counted less the weights: up to 26 % in pixel networks, 46 % in the autoencoder, and nothing in the latent UNet. Other
GPUs, precisions and models, and weights that come layer by layer, were not measured.
"""

import dataclasses
from typing import Literal

from show1.runtime.plan import Need

KERNELS = 70_000_000
"""Bytes that the libraries of CUDA take whatever is computed, with what its allocator rounds up."""
PIXEL = 0.3
"""Share of the activations that kernels take beside them in a pixel network."""
LATENT = 0.05
"""Such a share in a latent network."""
AUTOENCODER = 0.55
"""Such a share in an autoencoder."""

Kind = Literal["text", "pixel", "latent"]


def with_workspaces(need: Need, kind: Kind) -> Need:
    """What a part takes on a GPU, with a reserve for the workspaces of kernels.

    Args:
        need: What a trace counts.
        kind: A text encoder, a stage of a pixel network (whose other networks are such), or one of a latent network
            with an autoencoder.
    """
    of_row, of_other = {"text": (0.0, 0.0), "pixel": (PIXEL, PIXEL), "latent": (LATENT, AUTOENCODER)}[kind]
    return dataclasses.replace(
        need,
        row=_more(need.row, of_row),
        other=_more(need.other, of_other),
        tiled=None if need.tiled is None else _more(need.tiled, of_other),
        beside=need.beside + KERNELS,
    )


def _more(size: int, share: float) -> int:
    return size + round(size * share)
