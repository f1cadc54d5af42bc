"""Memory plans: the fastest way for each part that keeps to a budget."""

import re

import pytest
import torch
from torch import nn

from show1.errors import InputError
from show1.networks import UNet3DConditionModel
from show1.runtime.plan import Need, choose_ways, parse_size, ways
from show1.runtime.tracing import LiveTensors, peak_of_call
from tests.networks.tiny_unet import DIFFUSION, SIMPLE, build, inputs, run

NEED = Need(weights=100, largest_layer=5, row=10, samples=6, guided=True, other=15)


def test_each_way_takes_less_than_the_one_before() -> None:
    found = [(w.samples, w.split_guidance, w.streamed, w.peak) for w in ways(NEED)]
    assert found == [
        (6, False, False, 220),
        (3, False, False, 160),
        (2, False, False, 140),
        (1, False, False, 120),
        (1, True, False, 115),
        (3, False, True, 70),
        (2, False, True, 50),
        (1, False, True, 30),
        (1, True, True, 25),
    ]


def test_without_guidance_there_is_nothing_to_split_and_details_keep_weights_in_memory() -> None:
    need = Need(weights=100, largest_layer=5, row=10, streamable=False)
    assert [(w.samples, w.split_guidance, w.streamed, w.peak) for w in ways(need)] == [(1, False, False, 110)]


@pytest.mark.parametrize(("budget", "peak"), [(1000, 220), (220, 220), (219, 160), (120, 120), (119, 115), (25, 25)])
def test_the_fastest_way_within_the_budget(budget: int, peak: int) -> None:
    assert choose_ways({"stage": NEED}, budget)["stage"].peak == peak
    assert choose_ways({"stage": NEED}, budget + 50, taken={"stage": 50})["stage"].peak == peak


def test_a_budget_that_cannot_be_kept_says_what_could() -> None:
    gigabytes = Need(weights=8 * 10**9, largest_layer=10**9, row=10**9)
    with pytest.raises(InputError, match=r"1\.50 GB of memory are not enough for the stage, which takes 3\.26 GB"):
        choose_ways({"the stage": gigabytes}, 1_500_000_000, taken={"the stage": 250_000_000})


def test_the_size_that_is_named_is_enough_for_all_parts() -> None:
    needs = {
        "the first": Need(weights=541_000_000, largest_layer=1, row=0, streamable=False),
        "the second": Need(weights=1_891_234_567, largest_layer=1, row=0, streamable=False),
        "the third": Need(weights=700_000_000, largest_layer=1, row=0, streamable=False),
    }
    taken = dict.fromkeys(needs, 30_000_000) | {"the third": 100_000_000}
    with pytest.raises(InputError, match=r"0\.50 GB .* the second, which takes 1\.93 GB") as refused:
        choose_ways(needs, 500_000_000, taken=taken)
    named = re.search(r"takes (\d+\.\d+ GB)", str(refused.value))
    assert named is not None
    assert set(choose_ways(needs, parse_size(named[1]), taken=taken)) == set(needs)


@pytest.mark.parametrize(
    ("text", "size"), [("6GB", 6 * 10**9), (" 800 mb", 8 * 10**8), ("1.5GiB", 3 * 2**29), ("64KB", 64_000), (5, 5)]
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


NO_SIZES = ["", "6", "GB", "-1GB", "6 TBs", "six GB", "0GB", "9" * 400 + "GB", 0, -5, 2**63, True, 1.5, None]


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(InputError, match="'auto', 'low', 'high' or a size such as '6GB'"):
        parse_size(text)


def test_living_tensors_are_counted_once_each() -> None:
    known = torch.zeros(500)
    with LiveTensors([known]) as tensors:
        a = torch.zeros(1000)
        b = a.view(10, 100)[:5] + 1
        assert (tensors.live, tensors.peak) == (6000, 6000)
        known.mul_(2)
        del a
        assert tensors.live == 2000
        c = b + 1
        del b
    assert (tensors.live, tensors.peak) == (2000, 6000)
    assert c.nbytes == 2000


@pytest.mark.parametrize("config", [SIMPLE, DIFFUSION], ids=["simple", "diffusion"])
def test_the_peak_is_counted_as_it_is_measured(config: dict[str, object]) -> None:
    model = build(config)
    arguments = inputs(model)
    with LiveTensors([*model.parameters(), *arguments.values()]) as measured:
        run(model, arguments)
    with torch.device("meta"):
        empty = UNet3DConditionModel(**config).eval()
    counted = peak_of_call(empty, lambda: run(empty, {name: value.to("meta") for name, value in arguments.items()}))
    assert counted == pytest.approx(measured.peak, rel=0.1)
    assert measured.live < measured.peak


def test_attention_is_counted_without_the_matrix_of_all_pairs() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    module, x = Attention(), torch.empty(1, 4, 1000, 8, device="meta")
    assert peak_of_call(module, lambda: module(x)) == x.nbytes
