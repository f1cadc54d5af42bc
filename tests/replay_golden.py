"""Replays sampling runs of the published code through the stages and prints the largest absolute difference as its last
line.

    python tests/replay_golden.py               # the runs under tests/golden, with the difference of each
    python tests/replay_golden.py DIR           # one run
    python tests/replay_golden.py DIR --keep    # our output becomes the folder's

DIR holds `unet/`, `call.json` (all arguments of the run) and `io.safetensors` (its inputs and its output). It is
replayed on one thread, as it was made: more threads round otherwise, and sampling in windows makes large differences
of small ones.

The runs under `tests/golden` have the published runs' arguments and inputs; their networks, megabytes each, are drawn
anew wherever they are replayed, and their outputs are what our code gave (`--keep`) when it gave the published outputs
for the published networks, but for what rounding leaves. They were made on an Intel Xeon with AVX-512.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from show1.checkpoints.loading import load_unet
from show1.config import PUBLISHED, StageName
from show1.diffusion import PublishedSeeds
from show1.networks.unet_3d_condition import UNet3DConditionModel
from show1.stages import InterpolationStage, KeyframesStage, PromptEmbeddings, SuperResolutionStage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay:
    """A published run, ready to be repeated."""

    stage: Any
    """One of the stages, with the run's network."""
    video: Tensor | None
    """Its input."""
    prompts: PromptEmbeddings
    """Text states."""
    options: dict[str, Any]
    """The other arguments of the stage's call."""
    output: Tensor
    """What the published run gave, (B, 3, F, H, W)."""

    def run(self) -> Tensor:
        """Our output."""
        ours: Tensor = self.stage(self.video, self.prompts, **self.options)
        return ours


def load(folder: Path) -> Replay:
    """Reads a run's folder; draws its network where there are no weights."""
    call = json.loads((folder / "call.json").read_text())
    tensors = {name: tensor.float() for name, tensor in load_file(folder / "io.safetensors").items()}
    has_weights = any((folder / "unet").glob("*.safetensors"))
    unet = load_unet(folder / "unet", dtype=torch.float32, device="cpu") if has_weights else drawn(folder / "unet")
    scheduler = {**call["scheduler"], "_class_name": call["scheduler_class"]}
    name = kind(call, tensors)
    options = {
        "seeds": PublishedSeeds(call["seed"]),
        "settings": settings_of(name, call, tensors),
        "numerics": "published",
    }
    stage: Any = KeyframesStage(unet, scheduler)
    if name == "interpolation":
        stage = InterpolationStage(unet, scheduler)
    elif name == "super_resolution":
        noising = {"_class_name": "DDPMScheduler", **call["image_noising_scheduler"]}
        first_frame = (lambda *_, **__: tensors["first_frame"][:, :, 0]) if "first_frame" in tensors else None
        stage = SuperResolutionStage(unet, scheduler, noising, first_frame)
    video = tensors.get({"interpolation": "keyframes", "super_resolution": "video"}.get(name, ""))
    return Replay(stage=stage, video=video, prompts=prompts_of(tensors), options=options, output=tensors["output"])


def drawn(folder: Path) -> UNet3DConditionModel:
    """A network with the same random weights on every machine: rounded to bfloat16, as the published runs' are."""
    unet = UNet3DConditionModel.from_config(json.loads((folder / "config.json").read_text())).eval()
    random = np.random.RandomState(0)
    with torch.no_grad():
        for name, parameter in sorted(unet.named_parameters()):
            values = random.standard_normal(tuple(parameter.shape))
            if parameter.dim() > 1:
                values *= parameter[0].numel() ** -0.5
            else:
                values = 0.1 * values + ("norm" in name and name.endswith("weight"))
            parameter.copy_(torch.from_numpy(values).bfloat16())
    return unet


def kind(call: dict[str, Any], tensors: dict[str, Tensor]) -> StageName:
    """The stage of a run, by its inputs."""
    if "keyframes" in tensors:
        return "interpolation"
    if "video" in tensors or "noise_level" in call:
        return "super_resolution"
    return "keyframes"


def settings_of(name: StageName, call: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """The stage's settings, from the call's arguments and the sizes of its tensors."""
    published = getattr(PUBLISHED, name)
    options = {f.name: call[f.name] for f in dataclasses.fields(published) if f.name in call and f.name != "scheduler"}
    # diffusers guides above 1 only
    options["guidance_scale"] = max(1.0, float(call["guidance_scale"]))
    output = tensors["output"]
    if name == "interpolation":
        gaps = tensors["keyframes"].shape[2] - 1
        options["factor"] = (output.shape[2] - 1) // gaps if gaps else published.factor
        options["max_batch"] = len(output)  # one segment after another
    else:
        options["height"], options["width"] = output.shape[-2:]
    if name == "keyframes":
        options["num_frames"] = output.shape[2]
    return dataclasses.replace(published, **options)


def prompts_of(tensors: dict[str, Tensor]) -> PromptEmbeddings:
    """The text states, with one negative prompt for each prompt."""
    positive, negative = tensors["prompt_embeds"], tensors["negative_prompt_embeds"]
    return PromptEmbeddings(prompt_embeds=positive, negative_prompt_embeds=negative.expand_as(positive))


def difference(folder: Path, *, keep: bool = False) -> float:
    """Replays a run's folder, and returns the largest absolute difference of its output.

    Args:
        folder: The run's folder.
        keep: Whether our output becomes the folder's.
    """
    replay = load(folder)
    ours = replay.run()
    if keep:
        file = folder / "io.safetensors"
        save_file({**load_file(file), "output": ours}, file)
    return float((ours - replay.output).abs().max())


def main() -> None:
    """Replays the folder named on the command line, or those under `tests/golden`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--keep", action="store_true", help="our output becomes the folder's")
    arguments = parser.parse_args()
    if arguments.keep and arguments.folder is None:
        parser.error("--keep needs the folder of one run")
    torch.set_num_threads(1)
    if arguments.folder is not None:
        print(difference(arguments.folder, keep=arguments.keep))
        return
    golden = Path(__file__).parent / "golden"
    differences = {call.parent: difference(call.parent) for call in sorted(golden.glob("*/*/call.json"))}
    for folder, largest in differences.items():
        print(folder.relative_to(golden), largest)
    print(max(differences.values()))


if __name__ == "__main__":
    main()
