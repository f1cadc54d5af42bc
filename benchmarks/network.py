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
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

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


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    """What is measured: names and calls, each to be made before the next is asked for."""
    weight, features = torch.randn(64, 64, 3, 1, 1), torch.randn(2, 64, 8, 20, 32)
    flat = weight.squeeze(-1)
    yield "frame convolution, 2x64x8x20x32, Conv3d", lambda: F.conv3d(features, weight, padding=(1, 0, 0))
    yield (
        "frame convolution, 2x64x8x20x32, Conv2d on a view",
        lambda: F.conv2d(features.flatten(3), flat, padding=(1, 0)),
    )

    unet = UNet3DConditionModel(**preset("mini").network("keyframes")).eval()
    clips, texts = torch.randn(2, 3, 8, 20, 32), unet.encode_text(torch.randn(2, 24, 128))
    yield "keyframe network, 2x8x20x32, default layout", lambda: unet(clips, 500, text_cache=texts)
    original = unet.conv_in.forward
    unet.conv_in.forward = lambda x: original(x.contiguous(memory_format=torch.channels_last))  # type: ignore[method-assign]
    yield "keyframe network, 2x8x20x32, channels last", lambda: unet(clips, 500, text_cache=texts)
    unet.conv_in.forward = original  # type: ignore[method-assign]

    image, text = torch.randn(1, 3, 1, 20, 32), torch.randn(1, 24, 128)
    cache = unet.encode_text(text)
    yield "keyframe network, 1x1x20x32, text at every call", lambda: unet(image, 500, text)
    yield "keyframe network, 1x1x20x32, text once", lambda: unet(image, 500, text_cache=cache)

    wide = UNet3DConditionModel(**{**preset("mini").network("keyframes"), "in_channels": 7}).eval()
    segments, states = torch.randn(7, 7, 5, 20, 32), torch.randn(7, 24, 128)
    together, alone = wide.encode_text(states), wide.encode_text(states[:1])
    yield (
        "interpolation network, 7 segments one by one",
        lambda: [wide(segment, 500, text_cache=alone) for segment in segments.split(1)],
    )
    yield "interpolation network, 7 segments batched", lambda: wide(segments, 500, text_cache=together)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with torch.inference_mode():
        rows = [(name, median_ms(call, arguments.repeat)) for name, call in cases()]
    hardware = platform.processor() or platform.machine()
    print(f"{hardware}, {arguments.threads} threads, torch {torch.__version__}, float32, {datetime.date.today()};")
    print(f"median of {arguments.repeat} calls\n")
    print("| what | ms |\n|---|---|")
    for name, ms in rows:
        print(f"| {name} | {ms:.1f} |")


if __name__ == "__main__":
    main()
