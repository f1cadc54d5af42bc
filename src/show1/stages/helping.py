"""What other processes do for the first one: they load the stages that it loads, and compute rows of network calls."""

import functools
from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import Tensor

from show1.config import StageName
from show1.runtime.processes import first_process, helpers, own_device
from show1.stages.load import load_stage
from show1.stages.stage import Stage


class NetworkWorker:
    """Works in a helper: its methods are what `HelpedNetwork` and `load_in_all_processes` ask for."""

    def __init__(self) -> None:
        """Holds nothing yet."""
        self._stages: dict[str, Any] = {}
        self._network: Any = None
        self._texts: dict[int, Any] = {}

    def load(self, name: StageName, folder: Path, options: dict[str, Any], kept: Collection[str]) -> None:
        """Loads a stage as the first process does, and frees those that it has freed."""
        self._network, self._texts = None, {}
        self._stages = {other: stage for other, stage in self._stages.items() if other in kept}
        device = own_device(options["device"])
        self._stages[name] = load_stage(name, folder, **{**options, "device": device})

    def bind(self, stage: str, network: Any, num_train_timesteps: int) -> None:
        """Prepares for calls of a stage's network, which came without its weights."""
        own = self._stages[stage]
        self._texts = {}
        self._network = own.detailed(network.on(own.unet.eval()), num_train_timesteps)
        self._device = own.device

    def encode_text(self, number: int, prompt_embeds: Tensor) -> None:
        """Prepares the own rows of text states, (N, L, D)."""
        self._texts[number] = self._network.encode_text(prompt_embeds)

    def predict(self, number: int, sample: Tensor, timestep: Tensor) -> Tensor:
        """Predicts the own rows (N, C, F, H, W) at one timestep (); returns (N, C', F, H, W) on the CPU."""
        out: Tensor = self._network(sample.to(self._device), timestep.to(self._device), self._texts[number])
        return out.cpu()


def load_in_all_processes(name: StageName, folder: Path, *, kept: Collection[str], **options: Any) -> Stage[Any]:
    """Loads a stage here, and where helpers share its calls there too; see `load_stage`.

    Args:
        name: Which stage.
        folder: Holds the stage's components.
        kept: Other stages that stay in memory.
        **options: Those of `load_stage`.
    """
    load = functools.partial(load_stage, name, folder, **options)
    if (others := helpers()) is None:
        return load()
    theirs = {option: value for option, value in options.items() if option not in ("part_folders", "start_noise")}
    stage: Any
    stage, _ = others.ask("load", [(name, folder, theirs, tuple(kept))] * others.count, load)
    stage.helpers = others
    return stage  # type: ignore[no-any-return]


def helped() -> AbstractContextManager[bool]:
    """Lets all processes that torchrun or `accelerate launch` has started make one video after another together.

    ::

        with helped() as is_first:
            if is_first:
                video = Show1Pipeline.from_pretrained("showlab/show-1")("a panda spins over the snow")

    Only the first process runs the block's work; in the others it is done when the block begins.
    """
    return first_process(NetworkWorker)
