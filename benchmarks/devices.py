"""How much faster several processes compute one video's stages than one does.

    torchrun --nproc-per-node 2 -m benchmarks.devices            # on CPUs; `--model showlab/show-1` on GPUs

Each process computes with one thread on a CPU, or on its own GPU. Every stage runs by the first process alone and by
all of them, in turns (A B A B), with weights in memory and embeddings at hand; the table has the medians.
"""

import argparse
import datetime
import statistics
import time
from typing import Any

import torch
from torch import Tensor

from show1 import Show1Pipeline, make_request
from show1.generation.results import make_seeds
from show1.launch import own_place
from show1.stages.helping import helped


def measure(pipe: Show1Pipeline, *, steps: int, rounds: int, drafts: int) -> None:
    """Measures each stage on the output of the one before.

    Args:
        pipe: The model, with helpers.
        steps: Steps of each sampling run.
        rounds: Turns.
        drafts: Videos that are made at once.
    """
    changes = {stage: {"num_inference_steps": steps} for stage in pipe.stages}
    request = make_request("a panda spins over the snow", model=pipe, seed=1, count=drafts, settings=changes)
    texts = pipe.encode(request)
    video: Tensor | None = None
    print(f"| stage | 1 process, s | {own_place()[1]} processes, s | ratio |\n|---|---:|---:|---:|")
    for name in request.stages:
        with pipe.resident(name) as stage:
            step: Any = stage
            others, times = step.helpers, ([], [])
            options: dict[str, Any] = {"seeds": make_seeds(request), "settings": getattr(request.settings, name)}
            for turn in range(2 * rounds + 2):  # the first of each is not counted
                step.helpers = others if turn % 2 else None
                start = time.perf_counter()
                out = step(video, texts[name], **options)
                times[turn % 2].append(time.perf_counter() - start)
            del stage, step
        alone, shared = (statistics.median(each[1:]) for each in times)
        print(f"| {name} | {alone:.2f} | {shared:.2f} | {alone / shared:.2f} |", flush=True)
        video = out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--steps", type=int, default=4, help="steps of each sampling run")
    parser.add_argument("--rounds", type=int, default=3, help="turns that are counted")
    parser.add_argument("--drafts", type=int, default=1, help="videos that are made at once")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with helped() as is_first:
        if not is_first:
            return
        if own_place()[1] == 1:
            parser.error("start it by torchrun, in several processes")
        pipe = Show1Pipeline.from_pretrained(arguments.model, memory="low")
        measure(pipe, **{name: value for name, value in vars(arguments).items() if name != "model"})
        place = torch.cuda.get_device_name() if pipe.device.type == "cuda" else "CPU, one thread per process"
        print(
            f"\n{arguments.drafts} video(s), {place}, {pipe.dtype}, torch {torch.__version__}, {datetime.date.today()}"
        )


if __name__ == "__main__":
    main()
