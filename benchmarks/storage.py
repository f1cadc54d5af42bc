"""What weights in fewer bits take, and how far off one call of a network is.

    python -m benchmarks storage           # int8 and int4 need the extra `quantize`
    python -m benchmarks storage --write docs/memory.md

Sizes are counted for the published networks in bfloat16. Errors are those of one call, relative to bfloat16, root mean
square: of the networks of mini on random inputs, and of a T5 with random weights at half the published width.
"""

import argparse
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from benchmarks.memory import FRAMES, published_configs
from benchmarks.pages import Page, measured_on, write_option
from show1.checkpoints.components import text_width
from show1.checkpoints.locate import resolve
from show1.config import PUBLISHED, STAGES
from show1.stage_table import STAGE_TABLE
from show1.stages import load_stage
from show1.stages.needs import stage_need, text_need
from show1.text.encoder import load_text_encoder

PLACE: dict[str, Any] = {"dtype": torch.bfloat16, "device": "cpu"}
LAYERS = 2


def difference(made: Tensor, exact: Tensor) -> float:
    """Root mean square of the difference of tensors of any shape, relative to the exact one."""
    return float((made.float() - exact.float()).norm() / exact.float().norm())


def counted(folder: Path) -> dict[str, tuple[int, int]]:
    """Bytes of parts of the published sizes in bfloat16, and in fewer bits."""
    parts, found = published_configs(folder), {}
    for kind in ("int8", "int4"):
        stored: Any = kind
        sizes = [text_need(parts["keyframes"].path, 77, dtype=torch.bfloat16, stored=s).weights for s in (None, stored)]
        found[f"T5, `{kind}`"] = sizes[0], sizes[1]
    for stage in STAGES:
        options: dict[str, Any] = {"frames": FRAMES[stage], "prompts": 1, "dtype": torch.bfloat16}
        sizes = [stage_need(stage, parts, PUBLISHED, **options, fp8=fp8).weights for fp8 in (False, True)]
        found[f"{stage}, `fp8`"] = sizes[0], sizes[1]
    return found


def errors_of_networks() -> dict[str, float]:
    """Errors of one call of each network of mini."""
    found, cascade = {}, resolve("mini")
    for stage in STAGES:
        _, height, width = STAGE_TABLE[stage].output_shape(FRAMES[stage], cascade.settings)
        _, frames = STAGE_TABLE[stage].largest_call(FRAMES[stage], cascade.settings)
        scale = 8 if STAGE_TABLE[stage].unet.kind == "latent_unet" else 1
        outs = []
        for fp8 in (True, False):
            unet: Any = load_stage(stage, cascade.parts[stage].path, **PLACE, fp8=fp8).unet  # type: ignore[attr-defined]
            generator = torch.Generator().manual_seed(0)
            size = (1, unet.config.in_channels, frames, height // scale, width // scale)
            text = torch.randn(1, 20, text_width(unet.config) or 64, generator=generator).bfloat16()
            labels = {"class_labels": torch.full((1,), 10)} if unet.config.get("class_embed_type") else {}
            given = torch.randn(size, generator=generator).bfloat16(), torch.tensor(500)
            with torch.no_grad():
                outs.append(unet(*given, encoder_hidden_states=text, return_dict=False, **labels)[0])
        found[f"{stage}, `fp8`"] = difference(*outs)
    return found


def errors_of_text_encoders(folder: Path) -> dict[str, float]:
    """Errors of one call of a T5 at half width; none where bitsandbytes is missing."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return {}
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"d_model": 2048, "d_ff": 5120, "num_heads": 32, "num_layers": LAYERS, "vocab_size": 1000}
    T5EncoderModel(T5Config(**sizes, d_kv=64, feed_forward_proj="gated-gelu")).save_pretrained(folder)
    tokens = torch.arange(1, 78)[None]
    states = {}
    for stored in (None, "int8", "int4"):
        kind: Any = stored
        model = load_text_encoder(folder, **PLACE, stored=kind)
        with torch.no_grad():
            states[stored] = model(input_ids=tokens, attention_mask=torch.ones_like(tokens))[0]
    exact = states.pop(None)
    return {f"T5, `{stored}`": difference(made, exact) for stored, made in states.items()}


def table(sizes: dict[str, tuple[int, int]], errors: dict[str, float]) -> str:
    """Sizes and errors by part, in Markdown."""
    lines = ["| part | bfloat16, GB | stored, GB | error of one call |", "|---|---:|---:|---:|"]
    for part, (full, stored) in sizes.items():
        error = f"{100 * errors[part]:.1f} %" if part in errors else "not measured"
        lines.append(f"| {part} | {full / 1e9:.2f} | {stored / 1e9:.2f} | {error} |")
    if len(errors) < len(sizes):
        lines.append("\nint8 and int4 are not measured without bitsandbytes: pip install 'show1[quantize]'")
    lines.append(f"\n{measured_on()}")
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    write_option(parser)
    page = Page(parser.parse_args().write, "storage")
    with tempfile.TemporaryDirectory() as folder:
        sizes = counted(Path(folder) / "published")
        errors = errors_of_networks() | errors_of_text_encoders(Path(folder) / "text_encoder")
    text = table(sizes, errors)
    print(text)
    page.write("storage", text)


if __name__ == "__main__":
    main()
