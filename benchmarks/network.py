"""Measures the choices in the pixel UNet that are about speed.

    python -m benchmarks.network                # prints a Markdown table
    python -m benchmarks.network --threads 1 --repeat 10

What is compared: convolution over frames as Conv3d and as Conv2d on a view; the default and the channels-last layout;
text keys and values computed at every call and once; the segments of the interpolation stage one by one and batched.
"""

import argparse
import datetime
import platform
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from show1.networks import UNet3DConditionModel
from show1.training.presets import preset


def median_ms(function: Callable[[], object], repeat: int) -> float:
    """Median time of a call after a warm-up, in milliseconds."""
    for _ in range(2):
        function()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def frame_convolutions(repeat: int) -> list[tuple[str, float]]:
    weight = torch.randn(64, 64, 3, 1, 1)
    video = torch.randn(2, 64, 8, 20, 32)
    return [
        (
            "frame convolution, 2x64x8x20x32, Conv3d",
            median_ms(lambda: F.conv3d(video, weight, padding=(1, 0, 0)), repeat),
        ),
        (
            "frame convolution, 2x64x8x20x32, Conv2d on a view",
            median_ms(lambda: F.conv2d(video.flatten(3), weight.squeeze(-1), padding=(1, 0)), repeat),
        ),
    ]


def layouts(unet: UNet3DConditionModel, repeat: int) -> list[tuple[str, float]]:
    sample, text = torch.randn(2, 3, 8, 20, 32), torch.randn(2, 24, 128)
    cache = unet.encode_text(text)
    rows = [
        ("keyframe network, 2x8x20x32, default layout", median_ms(lambda: unet(sample, 500, text_cache=cache), repeat))
    ]
    original = unet.conv_in.forward

    def channels_last(x: Tensor) -> Tensor:
        return original(x.contiguous(memory_format=torch.channels_last))

    unet.conv_in.forward = channels_last  # type: ignore[method-assign]
    rows.append(
        ("keyframe network, 2x8x20x32, channels last", median_ms(lambda: unet(sample, 500, text_cache=cache), repeat))
    )
    unet.conv_in.forward = original  # type: ignore[method-assign]
    return rows


def text_cache(unet: UNet3DConditionModel, repeat: int) -> list[tuple[str, float]]:
    sample, text = torch.randn(1, 3, 1, 20, 32), torch.randn(1, 24, 128)
    cache = unet.encode_text(text)
    return [
        ("keyframe network, 1x1x20x32, text at every call", median_ms(lambda: unet(sample, 500, text), repeat)),
        ("keyframe network, 1x1x20x32, text once", median_ms(lambda: unet(sample, 500, text_cache=cache), repeat)),
    ]


def segments(repeat: int) -> list[tuple[str, float]]:
    unet = UNet3DConditionModel(**{**preset("mini").network("keyframes"), "in_channels": 7}).eval()
    sample, text = torch.randn(7, 7, 5, 20, 32), torch.randn(7, 24, 128)
    all_text, one_text = unet.encode_text(text), unet.encode_text(text[:1])

    def one_by_one() -> None:
        for i in range(7):
            unet(sample[i : i + 1], 500, text_cache=one_text)

    return [
        ("interpolation network, 7 segments one by one", median_ms(one_by_one, repeat)),
        (
            "interpolation network, 7 segments batched",
            median_ms(lambda: unet(sample, 500, text_cache=all_text), repeat),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    unet = UNet3DConditionModel(**preset("mini").network("keyframes")).eval()
    with torch.inference_mode():
        rows = frame_convolutions(arguments.repeat) + layouts(unet, arguments.repeat)
        rows += text_cache(unet, arguments.repeat) + segments(arguments.repeat)
    hardware = platform.processor() or platform.machine()
    print(f"{hardware}, {arguments.threads} threads, torch {torch.__version__}, float32, {datetime.date.today()};")
    print(f"median of {arguments.repeat} calls\n")
    print("| what | ms |\n|---|---|")
    for name, ms in rows:
        print(f"| {name} | {ms:.1f} |")


if __name__ == "__main__":
    main()
