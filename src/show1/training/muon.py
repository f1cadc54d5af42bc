"""Muon with iterations in the precision of its weights."""

from typing import Any

import torch
from pytorch_optimizer import Muon as BaseMuon
from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5


class Muon(BaseMuon):  # type: ignore[misc]
    """The library's Muon (arXiv:2502.16982), but on CPUs the Newton-Schulz iterations run in float32.

    Their bfloat16 is emulated by CPUs that do not have it: 2.6 times slower there.
    """

    @staticmethod
    def _orthogonalize(group: dict[str, Any], updates: list[torch.Tensor]) -> list[torch.Tensor]:
        if updates[0].device.type != "cpu":
            return BaseMuon._orthogonalize(group, updates)  # type: ignore[no-any-return]
        matrices = [update.flatten(1) for update in updates]
        wide = torch.stack([m.mT if m.shape[0] > m.shape[1] else m for m in matrices])
        done = zero_power_via_newton_schulz_5(
            wide, num_steps=group["ns_steps"], weights=group["ns_coeffs"], dtype=torch.float32
        )
        return [d.mT if m.shape[0] > m.shape[1] else d for d, m in zip(done, matrices, strict=True)]
