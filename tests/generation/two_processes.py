"""What two processes do together: `python -m tests.generation.two_processes MODEL OUT`, started once for each.

The first one writes what comes out into the folder OUT; the second one misbehaves where the name of a prompt says so.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from show1 import Show1Pipeline
from show1.errors import Show1Error
from show1.networks import UNet3DConditionModel
from show1.stages.helping import helped
from tests.published_layout import small_changes

PROMPT = "a burning lamborghini driving on rainbow."
TROUBLE = "SHOW1_TEST_TROUBLE"


def misbehave(file: Path) -> None:
    """Lets the networks of this process fail as the file says, if it is there."""
    forward = UNet3DConditionModel.forward

    def failing(self: Any, sample: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        trouble = file.read_text() if file.is_file() else ""
        if trouble == "memory" and len(sample) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if trouble == "error":
            raise ValueError("the second process has its own trouble")
        if trouble == "end":
            os._exit(9)
        return forward(self, sample, *arguments, **options)

    UNet3DConditionModel.forward = failing  # type: ignore[method-assign]


def main() -> None:
    model, out = Path(sys.argv[1]), Path(sys.argv[2])
    trouble = out / "trouble"
    torch.set_num_threads(1)
    if os.environ["RANK"] == "1":
        misbehave(trouble)
    with helped() as is_first:
        if is_first:
            work(model, out, trouble)
    (out / f"ended-{os.environ['RANK']}").touch()


def work(model: Path, out: Path, trouble: Path) -> None:
    logging.basicConfig(filename=out / "log")
    options: dict[str, Any] = {"dtype": "float64", "device": "cpu", "cache_embeddings": False}
    pipe = Show1Pipeline.from_pretrained(model, memory="low", **options)

    def make(prompt: Any = PROMPT, **more: Any) -> torch.Tensor:
        made = pipe(prompt, seed=3, settings=small_changes(), output_type="pt", **more)
        return torch.stack(made) if isinstance(made, list) else made

    one = make()
    trouble.write_text("memory")
    again = make(count=2, until="interpolation")
    trouble.write_text("error")
    (out / "message").write_text(message_of(make))
    trouble.unlink()
    kept = Show1Pipeline.from_pretrained(model, memory="high", **options)
    prompts, options = [PROMPT, "a panda spins over the snow", PROMPT], {"until": "interpolation", "output_type": "pt"}
    several = kept(prompts, seed=3, settings=small_changes(), **options)
    assert kept.loaded
    published = make(numerics="published", until="keyframes")
    videos = {"one": one, "again": again, "several": torch.stack(several), "published": published}
    save_file({name: video.contiguous() for name, video in videos.items()}, out / "videos.safetensors")
    if len(sys.argv) > 3:
        trouble.write_text("end")
        (out / "lost").write_text(message_of(lambda: make(run=out / "run")))


def message_of(make: Any) -> str:
    try:
        make()
    except Show1Error as error:
        return str(error)
    return "nothing went wrong"


if __name__ == "__main__":
    main()
