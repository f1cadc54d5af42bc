"""Random adapters for the stages of a small cascade."""

from typing import Any

import torch

from show1.adapters.adapter import Adapter, unet_sha256
from show1.checkpoints.weight_files import find_weights, read_shapes
from show1.config import StageName
from show1.generation.pipeline import Show1Pipeline

RANK = 2


def random_adapter(
    pipe: Show1Pipeline, *, stage: StageName = "keyframes", lora: bool = True, seed: int = 0, **values: Any
) -> Adapter:
    """Changes the queries and outputs of all temporal attention of a stage, much."""
    folder = pipe.cascade.parts[stage].path / "unet"
    shapes = {name: shape for file in find_weights(folder) for name, shape in read_shapes(file).items()}
    wanted = {n: s for n, s in shapes.items() if "temp_" in n and n.endswith(("to_q.weight", "proj_out.weight"))}
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (out, inside, *_) in wanted.items():
        if lora:
            module = name.removesuffix(".weight")
            tensors[f"{module}.lora_A.weight"] = torch.randn(RANK, inside, generator=generator) * 0.3
            tensors[f"{module}.lora_B.weight"] = torch.randn(out, RANK, generator=generator) * 0.3
        else:
            tensors[f"{name}.diff"] = torch.randn(out, inside, generator=generator) * 0.1
    known: dict[str, Any] = {
        "stage": stage,
        "kind": "motion",
        "method": "lora" if lora else "temporal_attention",
        "base_name": pipe.cascade.name,
        "base_sha256": unet_sha256(folder),
        "prompt": "a cat walks",
        "settings": {"steps": 3},
        "tensors": tensors,
        "lora_alpha": 3.0 if lora else None,
    }
    return Adapter(**{**known, **values})
