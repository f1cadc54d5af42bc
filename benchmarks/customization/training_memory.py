"""Peak memory of a step of customization, with the keyframe network at its published size and random weights.

    python -m benchmarks.customization.training_memory              # arithmetic on fake tensors, on any machine
    python -m benchmarks.customization.training_memory --measure    # the same steps on a GPU, with their time

A step is forward, backward and AdamW on clips of 8x40x64 in float32: four at a time, as `show1 customize motion` does
it by default, or one, as with `--batch-size 1`, or `--accumulate 4`.
Text states and clips are computed before and take next to nothing. Nothing is computed on fake tensors, so kernels' own
workspaces are not counted.
"""

import argparse
import datetime
import time
import weakref
from itertools import product
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from show1.diffusion import add_noise
from show1.networks import UNet3DConditionModel
from show1.networks.layers import set_temporal_dropout
from show1.training.customization import METHODS, CustomizationConfig
from show1.training.customization.methods import METHOD_CLASSES, Method, MotionLora
from show1.training.objective import Inputs, Predicted
from show1.training.presets import preset

FRAMES, HEIGHT, WIDTH = 8, 40, 64


def configure(method: str, checkpointing: bool, clips: int) -> CustomizationConfig:
    """A motion of the published keyframes."""
    return CustomizationConfig.from_dict(
        {
            "kind": "motion",
            "output": "adapter.safetensors",
            "video": ["clip.mp4"],
            "prompt": ["a cat walks"],
            "method": method,
            "gradient_checkpointing": checkpointing,
            "batch_size": clips,
        }
    )


def build(config: CustomizationConfig) -> tuple[Any, Method]:
    """The network, frozen but for what the method lets learn."""
    unet: Any = UNet3DConditionModel(**preset("show-1").network("keyframes"))
    set_temporal_dropout(unet, 0.0)
    method = METHOD_CLASSES[config.resolved_method](unet, config)
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return unet.train(), method


def step(unet: Any, method: Method, optimizer: torch.optim.Optimizer, clips: int, device: torch.device) -> None:
    """One step; for LoRA that of the layers over frames, which needs most."""
    alphas = torch.linspace(0.999, 0.001, 1000, device=device)

    def predict(inputs: Inputs) -> Predicted:
        noise = torch.randn(inputs.x0.shape, device=device)
        t = torch.full((len(noise),), 500, device=device)
        out = unet(add_noise(inputs.x0, noise, t, alphas), t, encoder_hidden_states=inputs.text, return_dict=False)[0]
        return Predicted(out=out, x0=inputs.x0, noise=noise, t=t, alphas_cumprod=alphas, prediction="epsilon")

    clip: Tensor = torch.randn(clips, 3, FRAMES, HEIGHT, WIDTH, device=device)
    text = torch.randn(clips, 77, 4096, device=device)
    inputs = Inputs(x0=clip, text=text)
    loss = method.temporal_loss(predict, inputs, 0) if isinstance(method, MotionLora) else method.loss(predict, inputs)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


class Allocator(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive. torch's own MemTracker cannot follow frozen parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._alive: set[weakref.ref[Any]] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls, and looks at what comes out."""
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return out

    def _see(self, storage: Any) -> None:
        size = storage.nbytes()

        def gone(reference: Any) -> None:
            self._alive.discard(reference)
            self.bytes -= size

        reference = weakref.ref(storage, gone)
        if reference not in self._alive:
            self._alive.add(reference)
            self.bytes += size
            self.peak = max(self.peak, self.bytes)


def traced(config: CustomizationConfig) -> tuple[int, int, float]:
    """Parameters that learn, bytes of the peak by the allocator's arithmetic, no time."""
    device = torch.device("cpu")
    # peft moves its matrices to the device that they are on already, which fake tensors cannot
    moving = mock.patch.object(nn.Module, "to", lambda module, *_, **__: module)
    with FakeTensorMode(), Allocator() as allocator:
        with moving:
            unet, method = build(config)
        learning = [p for p in unet.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(learning, fused=True)
        for _ in range(2):  # the optimizer's state is there from the second on
            step(unet, method, optimizer, config.batch_size, device)
        return sum(p.numel() for p in learning), allocator.peak, float("nan")


def measured(config: CustomizationConfig) -> tuple[int, int, float]:
    """Parameters that learn, bytes of the peak as CUDA's allocator counts them, seconds of a step."""
    device = torch.device("cuda")
    torch.cuda.empty_cache()
    with device:
        unet, method = build(config)
    learning = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, fused=True)
    step(unet, method, optimizer, config.batch_size, device)
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(3):
        step(unet, method, optimizer, config.batch_size, device)
    torch.cuda.synchronize()
    return sum(p.numel() for p in learning), torch.cuda.max_memory_allocated(), (time.perf_counter() - start) / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure on a CUDA device instead")
    arguments = parser.parse_args()
    print("| method | clips | gradient checkpointing | millions learn | peak, GB | s |\n|---|---:|---|---:|---:|---:|")
    for method, clips, checkpointing in product(METHODS["motion"], (4, 1), (False, True)):
        count, peak, seconds = (measured if arguments.measure else traced)(configure(method, checkpointing, clips))
        used = "yes" if checkpointing else "no"
        print(f"| {method} | {clips} | {used} | {count / 1e6:.1f} | {peak / 1e9:.2f} | {seconds:.2f} |", flush=True)
    how = f"measured on {torch.cuda.get_device_name()}" if arguments.measure else "computed on fake tensors"
    print(f"\n{how}, float32, random weights; torch {torch.__version__}, {datetime.date.today()}")


if __name__ == "__main__":
    main()
