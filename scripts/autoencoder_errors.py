"""How close autoencoders come to frames that they have not learned from, and what a frame costs them.

    python scripts/autoencoder_errors.py runs/tiny_vae/export [--videos 24]

Each folder holds a `vae`. They are compared with that of `--first`, whose latents they have learned: by default that of
`mini`. One frame of each of some clips of the sprite world, 160x256, is encoded and decoded by each. Errors are in
8-bit levels; sharpness is the mean step between neighbouring pixels, relative to that of the frames; `latents` is the
mean square by which they differ from the first one's, whose variance is about 1. `encoding` and `decoding` are
core-milliseconds for one frame, in the precision and layout that the stage uses.
"""

import argparse
import datetime
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from show1.checkpoints.loading import load_vae
from show1.checkpoints.locate import embedded_folder
from show1.cli.failures import run_script
from show1.sprites.clips import SpriteClips
from show1.stages.translation import decode, encode


def frames_of(videos: int) -> Tensor:
    """The middle frames of clips that no training shows, (N, 3, 160, 256)."""
    source = SpriteClips(seed=5)
    clips = (source.clip(10**6 + i, num_frames=29, height=160, width=256) for i in range(videos))
    return torch.stack([clip[:, 14] for clip in clips])


def steps(frames: Tensor) -> float:
    """Mean absolute step between neighbouring pixels."""
    return sum(float(frames.diff(dim=d).abs().mean()) for d in (2, 3))


def core_ms(call: Callable[[], object]) -> float:
    """Lowest core-milliseconds of some calls."""
    taken = []
    for _ in range(12):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return min(taken) * 1e3


def row(name: str, vae: nn.Module, frames: Tensor, wanted: Tensor) -> str:
    """What an autoencoder makes of the frames, as a row of the table."""
    latents = encode(vae, frames, draw=None, frames_per_slice=1)
    made = torch.stack(list(decode(vae, latents))).clamp(-1, 1)
    psnr = -10 * math.log10(float(((made - frames) / 2).square().mean()))
    error, off = float((made - frames).abs().mean()) * 127.5, float((latents - wanted).square().mean())
    encoding = core_ms(lambda: encode(vae, frames[:1], draw=None))
    decoding = core_ms(lambda: list(decode(vae, latents[:1])))
    count = sum(p.numel() for p in vae.parameters()) / 1e6
    return (
        f"| {name} | {count:.2f} | {psnr:.1f} | {error:.2f} | {steps(made) / steps(frames):.2f} | {off:.4f} "
        f"| {encoding:.1f} | {decoding:.1f} |"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="folders that hold a vae, such as exports of tiny_vae")
    parser.add_argument(
        "--first", type=Path, default=embedded_folder() / "translation", help="the one whose latents they have learned"
    )
    parser.add_argument("--videos", type=int, default=24, help="clips, of each of which one frame is used")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dtype, frames = getattr(torch, arguments.dtype), frames_of(arguments.videos)
    print("| autoencoder | million parameters | PSNR, dB | error | sharpness | latents | encoding | decoding |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    with torch.no_grad():
        wanted = None
        for folder in (arguments.first, *arguments.folders):
            vae = load_vae(folder / "vae", dtype=dtype, device="cpu")
            if wanted is None:
                wanted = encode(vae, frames, draw=None, frames_per_slice=1)
            print(row(f"{type(vae).__name__}, {folder}", vae, frames, wanted), flush=True)
    where = f"{platform.machine()}, torch {torch.__version__}, {datetime.date.today()}"
    print(f"\n{len(frames)} frames, {arguments.dtype}, {where}.")


if __name__ == "__main__":
    run_script(main)
