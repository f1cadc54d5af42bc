"""Generates within a memory budget and prints what it took: `python -m tests.generation.within_budget roomy|tight`.

Two samples of 13 frames go through `mini`'s expert, in one step. A roomy budget has place for both in one call; a tight
one is hardly larger than the least that is possible. The peak is that which Linux keeps of the process (VmHWM). It
includes the pages of mapped weight files, which a budget leaves out; those of `mini` are 10 MB at most.
"""

import json
import sys
import tempfile

import torch

from show1 import Show1Pipeline, make_request
from show1.generation.memory import CPU_SCRATCH
from show1.runtime.accounting import process_memory, taken_memory
from show1.runtime.plan import ways

SPARE = 10_000_000
"""Bytes of a tight budget beyond the least."""
FRAMES = 13


def main(kind: str) -> None:
    pipe = Show1Pipeline.from_pretrained("mini", device="cpu", dtype="float32", memory="low")
    height, width = pipe.settings.super_resolution.height, pipe.settings.super_resolution.width
    video = torch.rand(2, 3, FRAMES, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    prompts = ["a panda spins over the snow", "a cat spins over the snow"]
    changes = {"translation": {"num_inference_steps": 5}}  # of which it makes the last one
    request = make_request(
        prompts, model=pipe, seed=1, settings=changes, start_from="translation", video=video, until="translation"
    )
    known = list(ways(pipe.needs(request, FRAMES)["translation"]))
    before = taken_memory(torch.device("cpu"))
    pipe._planner.budget = before + CPU_SCRATCH + (2 * 10**9 if kind == "roomy" else known[-1].peak + SPARE)
    with tempfile.TemporaryDirectory() as run:
        pipe.generate(request, f"{run}/run", video=video)
    way = pipe._planner._ways["translation"]
    print(
        json.dumps(
            {
                "budget": pipe.budget,
                "before": before,
                "way": str(way),
                "samples": way.samples,
                "predicted": way.peak,
                "peak": process_memory("VmHWM"),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
