"""Optimizers, learning rates, and averages of the weights."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch

from show1.errors import MissingDependencyError
from show1.runtime import computes_bfloat16
from show1.training.options import LoopOptions
from show1.training.tasks.base import Task

_MODULES = {
    "muon": ("pytorch_optimizer", "install the training extra: pip install 'show1[train]'"),
    "adamw8bit": ("bitsandbytes.optim", "pip install bitsandbytes, or use adamw"),
}
"""The module of an optimizer that is not torch's own, and what to do without it."""


def make_optimizer(task: Task, loop: LoopOptions) -> torch.optim.Optimizer:
    """Makes AdamW, or Muon for the matrices between the first and the last layer and AdamW for the rest.

    Raises:
        MissingDependencyError: The package of the optimizer is not installed.
    """
    check_optimizer(loop)
    new = task.new_parameters()
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            hidden = parameter.ndim >= 2 and not re.search(r"conv_in|conv_out|embedding|shared", name)
            groups.setdefault((name in new, hidden and loop.optimizer == "muon"), []).append(parameter)
    options: list[dict[str, Any]] = [
        {"params": params, "lr": loop.learning_rate * (1.0 if is_new else task.inherited_lr_scale)}
        for (is_new, _), params in groups.items()
    ]
    if loop.optimizer == "adamw":
        return torch.optim.AdamW(options, weight_decay=loop.weight_decay, fused=True)
    if loop.optimizer == "adamw8bit":
        from bitsandbytes.optim import AdamW8bit

        optimizer: torch.optim.Optimizer = AdamW8bit(options, weight_decay=loop.weight_decay)
        return optimizer
    for option, (_, use_muon) in zip(options, groups, strict=True):
        # orthogonal updates scaled to the size of AdamW's (section 2.2 of arXiv:2502.16982): one learning rate for both
        option |= {"use_muon": use_muon, "weight_decay": loop.weight_decay}
        option |= {"use_adjusted_lr": True} if use_muon else {"betas": (0.9, 0.999), "eps": 1e-8}
    return muon(options)


def check_optimizer(loop: LoopOptions) -> None:
    """Makes sure that the package of the optimizer is installed.

    Raises:
        MissingDependencyError: It is not.
    """
    module, remedy = _MODULES.get(loop.optimizer, ("torch", ""))
    try:
        import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"optimizer: {loop.optimizer} needs {module.partition('.')[0]} ({error}); {remedy}"
        ) from error


def lr_factor(step: int, loop: LoopOptions) -> float:
    """Gives the factor on the learning rate at a step: the warm-up times the schedule."""
    warmup = min(1.0, (step + 1) / max(1, loop.warmup_steps))
    left = 1 - step / loop.steps
    if loop.lr_schedule == "constant":
        return warmup
    return warmup * (left if loop.lr_schedule == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left))))


def update_average(ema: Any, trained: Sequence[torch.nn.Parameter]) -> None:
    """Does a step of diffusers' `EMAModel`, also for parameters that do not learn in this step.

    By itself it would copy those instead of averaging them.
    """
    learning = [parameter.requires_grad for parameter in trained]
    for parameter in trained:
        parameter.requires_grad_(True)
    ema.step(trained)
    for parameter, on in zip(trained, learning, strict=True):
        parameter.requires_grad_(on)


@contextmanager
def averaged(ema: Any, trained: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Puts the averaged weights in place of those that are trained, inside the block."""
    ema.store(trained)
    ema.copy_to(trained)
    try:
        yield
    finally:
        ema.restore(trained)


def muon(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Makes pytorch-optimizer's Muon (arXiv:2502.16982); its Newton-Schulz iterations are in float32 on some CPUs.

    The library runs them in bfloat16, which CPUs without it emulate 2.6 times more slowly.

    Args:
        groups: Parameters with their options, as `pytorch_optimizer.Muon` takes them.

    Raises:
        ImportError: pytorch-optimizer is not installed.
    """
    from pytorch_optimizer import Muon
    from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5

    dtype = torch.bfloat16 if computes_bfloat16() else torch.float32

    class BatchedMuon(Muon):  # type: ignore[misc]
        @staticmethod
        def _orthogonalize(group: dict[str, Any], updates: list[torch.Tensor]) -> list[torch.Tensor]:
            if updates[0].device.type != "cpu":
                return Muon._orthogonalize(group, updates)  # type: ignore[no-any-return]
            matrices = [update.flatten(1) for update in updates]
            wide = torch.stack([m.mT if m.shape[0] > m.shape[1] else m for m in matrices])
            done = zero_power_via_newton_schulz_5(
                wide, num_steps=group["ns_steps"], weights=group["ns_coeffs"], dtype=dtype
            ).float()
            return [d.mT if m.shape[0] > m.shape[1] else d for d, m in zip(done, matrices, strict=True)]

    optimizer: torch.optim.Optimizer = BatchedMuon(groups)
    return optimizer
