"""Network calls that several processes compute together: each takes some of the rows.

The first process runs the stages. Where a call has several rows (the halves of guidance, the samples of a batch, the
segments of the interpolation), the others compute some of them with the same weights.
"""

from typing import Any

import torch
from torch import Tensor

from show1.diffusion import Network
from show1.runtime.processes import Helpers


class HelpedNetwork:
    """A `Network` whose calls are shared with helpers."""

    def __init__(self, network: Network, helpers: Helpers, *, bare: Any, stage: str, num_train_timesteps: int) -> None:
        """Binds the helpers' networks as this one is.

        Args:
            network: That of this process.
            helpers: They have loaded the stage.
            bare: A `PixelNetwork` or `LatentNetwork` without its module, which the helpers have.
            stage: The stage's name.
            num_train_timesteps: Timesteps of the schedule that the network was trained with.
        """
        self._network = network
        self._helpers = helpers
        self._texts = 0
        bound = (stage, bare, num_train_timesteps)
        helpers.ask("bind", [bound] * helpers.count, lambda: None)

    def encode_text(self, prompt_embeds: Tensor) -> Any:
        """Prepares text states (N, L, D), each process its rows."""
        self._texts += 1
        number = self._texts
        own, *others = self._parts(prompt_embeds)
        tasks = [(number, part) if len(part) else None for part in others]
        text, _ = self._helpers.ask("encode_text", tasks, lambda: self._network.encode_text(own))
        return number, text

    def __call__(self, sample: Tensor, timestep: Tensor, text: Any) -> Tensor:
        """Predicts from (N, C, F, H, W) at one timestep (); returns (N, C', F, H, W), float32."""
        number, own_text = text
        own, *others = self._parts(sample)
        tasks = [(number, part, timestep.cpu()) if len(part) else None for part in others]
        out, answers = self._helpers.ask("predict", tasks, lambda: self._network(own, timestep, own_text))
        return torch.cat([out, *(part.to(out.device) for part in answers if part is not None)])

    def _parts(self, rows: Tensor) -> list[Tensor]:
        """The rows of each process, (N', ...): the own ones where they are, the others' as they are sent."""
        own, *others = torch.tensor_split(rows, self._helpers.count + 1)
        return [own, *(part.cpu().clone() for part in others)]  # a part of a tensor would be sent as a whole
