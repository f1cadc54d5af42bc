"""The reserve for the kernels of a GPU covers what was measured, and not much more."""

import pytest

from show1.runtime.plan import Need, ways
from show1.runtime.workspaces import AUTOENCODER, KERNELS, LATENT, PIXEL, Kind, with_workspaces

# of docs/claim.md, in GB: kind, weights, what the arithmetic gives, what an NVIDIA H200 took
CALLS: dict[str, tuple[Kind, float, float, float]] = {
    "T5-XXL": ("text", 9.52, 9.54, 9.59),
    "CLIP": ("text", 0.68, 0.69, 0.72),
    "keyframes": ("pixel", 3.45, 3.95, 4.05),
    "interpolation": ("pixel", 3.45, 3.77, 3.87),
    "super-resolution": ("pixel", 1.57, 3.95, 4.62),
    "pixel last stage": ("pixel", 1.57, 12.25, 15.10),
    "pixel last stage without windows": ("pixel", 1.57, 40.28, 48.01),
    "expert": ("latent", 2.82, 6.36, 6.42),
}


def in_bytes(gigabytes: float) -> int:
    return round(gigabytes * 1e9)


@pytest.mark.parametrize("name", CALLS)
def test_the_reserve_covers_every_measured_call_and_at_most_a_tenth_more(name: str) -> None:
    kind, weights, counted, measured = CALLS[name]
    need = Need(weights=in_bytes(weights), largest_layer=1, row=in_bytes((counted - weights) / 2), guided=True)
    first = next(ways(with_workspaces(need, kind)))
    assert in_bytes(measured) <= first.peak <= in_bytes(1.1 * measured)
    assert next(ways(need)).peak < in_bytes(measured)


def test_the_reserve_covers_the_decoder_of_the_autoencoder() -> None:
    need = Need(weights=in_bytes(0.17), largest_layer=1, row=0, other=in_bytes(0.28), tiled=in_bytes(0.1))
    known = with_workspaces(need, "latent")
    assert in_bytes(0.65) <= next(ways(known)).peak <= in_bytes(1.1 * 0.65)
    assert known.tiled == round(1.55 * in_bytes(0.1))


def test_a_reserve_is_added_to_every_way() -> None:
    need = Need(weights=10**9, largest_layer=10**8, row=10**8, samples=2, guided=True, beside=5)
    plain, reserved = list(ways(need)), list(ways(with_workspaces(need, "pixel")))
    assert [(w.samples, w.split_guidance, w.streamed) for w in plain] == [
        (w.samples, w.split_guidance, w.streamed) for w in reserved
    ]
    assert reserved[0].peak == 10**9 + 4 * 13 * 10**7 + 5 + KERNELS
    assert with_workspaces(need, "text").row == need.row
    assert (PIXEL, LATENT, AUTOENCODER) == (0.3, 0.05, 0.55)
