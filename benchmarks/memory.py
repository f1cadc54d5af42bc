"""What each part of the published cascade takes of memory, and what the plan makes of a budget.

    python -m benchmarks memory                    # counts, at the published sizes, on any machine in a minute
    python -m benchmarks memory --experts          # counts latent video models in place of the expert
    python -m benchmarks memory --measure          # compares counted and measured peaks at half width, on the CPU
    python -m benchmarks memory --quick            # both, but measures the keyframes only: minutes on two cores
    python -m benchmarks memory --quick --write docs/memory.md
    python -m benchmarks memory --experts --write docs/experts.md

Counts come from traces of the networks on the meta device. What is measured is the process's own memory (RssAnon of
Linux, without the pages of mapped files) while a network is loaded and called once, sampled every few milliseconds. It
includes the kernels' workspaces, which the counts do not.
"""

import argparse
import dataclasses
import functools
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXTransformer3DModel,
    UniPCMultistepScheduler,
    WanTransformer3DModel,
)
from torch import nn
from transformers import CLIPTextConfig, T5Config, UMT5Config

from benchmarks.claim.memory import CLIP, T5
from benchmarks.pages import Page, counted_on, measured_on, write_option
from show1.checkpoints.cascade import Part
from show1.checkpoints.components import NETWORK_CLASSES
from show1.checkpoints.loading import build_empty, load_network
from show1.config import PUBLISHED, STAGES, CascadeSettings
from show1.errors import InputError
from show1.expert_table import EXPERT_SETTINGS, read_expert
from show1.experts import expert_needs
from show1.runtime import empty_cache, give_back_what_is_freed
from show1.runtime.accounting import process_memory
from show1.runtime.plan import Need, choose_ways, ways
from show1.stage_table import STAGE_TABLE
from show1.stages.needs import call_unet, stage_need, text_need
from show1.text.words import word_tokenizer
from show1.training.presets import preset

BUDGETS = (10.0, 5.0, 2.5)
"""In GB."""
FRAMES = {"keyframes": 8, "interpolation": 29, "super_resolution": 29, "translation": 29}


def published_configs(folder: Path, *, divisor: int = 1) -> dict[str, Part]:
    """Writes the configs of the published networks, without weights.

    Args:
        folder: An empty folder.
        divisor: Channels are divided by this number.
    """
    parts = {}
    for stage in STAGES:
        for component in STAGE_TABLE[stage].components:
            if component.has_weights:
                config = dict(preset("show-1").network(stage if component.name == "unet" else component.name))
                if component.name == "unet":
                    config["block_out_channels"] = [c // divisor for c in config["block_out_channels"]]
                cls: Any = NETWORK_CLASSES[component.kind]
                with torch.device("meta"):
                    cls(**config).save_config(folder / stage / component.name)
        parts[stage] = Part(path=folder / stage, source="published", root=folder, text=folder / stage)
    for stage, config in (
        ("keyframes", T5Config(**T5, feed_forward_proj="gated-gelu", vocab_size=32128)),
        ("translation", CLIPTextConfig(**CLIP)),
    ):
        config.save_pretrained(folder / stage / "text_encoder")
    return parts


def counted_needs(parts: dict[str, Part], settings: CascadeSettings, dtype: torch.dtype) -> dict[str, Need]:
    """What the two text encoders and the four stages take, for one video."""
    found = {}
    for stage in ("keyframes", "translation"):
        found[f"the text encoder of {stage}"] = text_need(parts[stage].path, 77, dtype=dtype)
    for stage in STAGES:
        found[stage] = stage_need(stage, parts, settings, frames=FRAMES[stage], prompts=1, dtype=dtype)
    return found


_XXL: dict[str, Any] = {
    "d_model": 4096,
    "d_ff": 10240,
    "d_kv": 64,
    "num_heads": 64,
    "num_layers": 24,
    "feed_forward_proj": "gated-gelu",
}
EXPERTS: dict[str, tuple[str, dict[str, tuple[Any, dict[str, Any]]]]] = {
    "Wan 2.1 1.3B": (
        "WanPipeline",
        {
            "text_encoder": (UMT5Config, {**_XXL, "vocab_size": 256384}),
            "transformer": (WanTransformer3DModel, {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}),
            "vae": (AutoencoderKLWan, {}),
            "scheduler": (UniPCMultistepScheduler, {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
        },
    ),
    "CogVideoX-2b": (
        "CogVideoXPipeline",
        {
            "text_encoder": (T5Config, {**_XXL, "vocab_size": 32128}),
            "transformer": (CogVideoXTransformer3DModel, {}),
            "vae": (AutoencoderKLCogVideoX, {}),
            "scheduler": (CogVideoXDDIMScheduler, {}),
        },
    ),
}
"""Pipeline and components of experts, with what differs from the defaults of their classes."""


def expert_configs(folder: Path, pipeline: str, components: dict[str, tuple[Any, dict[str, Any]]]) -> Part:
    """Writes the configs of an expert, without weights, and a tokenizer of a few words."""
    index: dict[str, Any] = {"_class_name": pipeline, "tokenizer": ["transformers", "T5TokenizerFast"]}
    word_tokenizer(["a", "panda"], 512).save_pretrained(folder / "tokenizer")
    for name, (cls, config) in components.items():
        if issubclass(cls, T5Config | UMT5Config):
            cls(**config).save_pretrained(folder / name)
            index[name] = ["transformers", cls.__name__.replace("Config", "EncoderModel")]
            continue
        with torch.device("cpu" if name == "scheduler" else "meta"):
            cls(**config).save_config(folder / name)
        index[name] = ["diffusers", cls.__name__]
    return Part(path=folder, source="published", root=folder, expert=read_expert(index, folder))


def counted_experts(folder: Path) -> dict[str, Need]:
    """What experts take on a card in bfloat16, for 29 frames of the size of their settings."""
    found, card = {}, torch.device("cuda")
    for name, (pipeline, components) in EXPERTS.items():
        part = expert_configs(folder / name, pipeline, components)
        assert part.expert is not None
        own = PUBLISHED.replace(translation={**EXPERT_SETTINGS, **part.expert.row.settings}).translation
        options: dict[str, Any] = {"dtype": torch.bfloat16, "device": card, "text_device": card, "prompts": 1}
        for bits in (None, "int8", "int4"):
            settings = dataclasses.replace(own, weights=bits or "plain")
            needs = expert_needs(part, settings, frames=FRAMES["translation"], stored=bits, **options)
            assert needs is not None
            stored = "" if bits is None else f", {bits}"
            found |= {f"{name}, text encoder{stored}": needs.text, f"{name}{stored}": needs.networks}
    return found


def plans_table(
    needs: dict[str, Need], budgets_gb: tuple[float, ...] = BUDGETS, beside: str = "activations per row"
) -> str:
    """What parts take, and how they would be computed within budgets; Markdown.

    Args:
        needs: The parts.
        budgets_gb: The budgets.
        beside: What a part takes beside its weights.
    """
    budgets = " | ".join(f"within {budget:g} GB" for budget in budgets_gb)
    lines = [f"| part | weights, GB | {beside}, GB | {budgets} |"]
    lines.append("|---|---:|---:|" + "---|" * len(budgets_gb))
    for name, need in needs.items():
        cells = [_planned({name: need}, budget) for budget in budgets_gb]
        lines.append(f"| {name} | {need.weights / 1e9:.2f} | {need.row / 1e9:.2f} | {' | '.join(cells)} |")
    lines.append(f"\ncounted, bfloat16; {counted_on()}")
    return "\n".join(lines)


def _planned(needs: dict[str, Need], budget: float) -> str:
    try:
        (way,) = choose_ways(needs, int(budget * 1e9)).values()
    except InputError:
        return "does not fit"
    return str(way)


def measured_peak(part: Part, stage: str, call: Callable[[Any], object], *, streamed: bool) -> int:
    """Bytes that the process takes at the peak while a network is loaded and called, beside what it took before."""
    kind = STAGE_TABLE[stage].unet.kind
    empty_cache(torch.device("cpu"))
    with _Sampler() as sampler, torch.no_grad():
        unet = load_network(
            NETWORK_CLASSES[kind], part.path / "unet", dtype=torch.bfloat16, device="cpu", streamed=streamed
        )
        call(unet)
    return sampler.peak - sampler.before


class _Sampler:
    """Samples the process's memory from another thread."""

    def __enter__(self) -> Self:
        self.before = self.peak = self._now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.003):
            self.peak = max(self.peak, self._now())

    @staticmethod
    def _now() -> int:
        return process_memory("RssAnon") or 0


def network_call(need_rows: int, stage: str, settings: CascadeSettings, unet: Any) -> object:
    """The stage's largest call, with so many rows."""
    row = STAGE_TABLE[stage]
    _, height, width = row.output_shape(FRAMES[stage], settings)
    _, frames = row.largest_call(FRAMES[stage], settings)
    if row.unet.kind == "latent_unet":
        height, width = height // 8, width // 8
    return call_unet(unet, (frames, height, width), settings.max_text_tokens, rows=need_rows, device="cpu")


def compared_table(folder: Path, stages: tuple[str, ...]) -> str:
    """Measures calls of networks at half width, and compares with the counts; Markdown, printed as it comes."""
    give_back_what_is_freed()
    settings, parts = PUBLISHED, published_configs(folder, divisor=2)
    needs = counted_needs(parts, settings, torch.bfloat16)
    lines = ["| stage | counted | measured | counted / measured |", "|---|---|---:|---:|"]
    print("\n".join(lines), flush=True)
    for stage in stages:
        component = parts[stage].path / "unet"
        network: Any = build_empty(NETWORK_CLASSES[STAGE_TABLE[stage].unet.kind], component)
        nn.Module.to_empty(network, device="cpu")
        for parameter in network.parameters():
            parameter.data.normal_(0, 0.02)
        network.save_pretrained(component)
        alone = dataclasses.replace(needs[stage], samples=1, guided=True, other=0)
        if STAGE_TABLE[stage].unet.kind == "latent_unet":  # the autoencoder is not loaded here
            alone = dataclasses.replace(alone, weights=sum(p.nbytes // 2 for p in network.parameters()))
        del network
        for way in ways(alone):
            call = functools.partial(network_call, 1 if way.split_guidance else 2, stage, settings)
            peak = measured_peak(parts[stage], stage, call, streamed=way.streamed)
            lines.append(f"| {stage} | {way} | {peak / 1e9:.2f} GB | {way.peak / peak:.2f} |")
            print(lines[-1], flush=True)
    lines.append(f"\n{measured_on()}")
    print(lines[-1])
    return "\n".join(lines)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="compare with what real calls take, at half width")
    parser.add_argument("--experts", action="store_true", help="count latent video models in place of the expert")
    parser.add_argument("--stage", action="append", choices=STAGES, help="measure only these stages")
    parser.add_argument("--quick", action="store_true", help="count, and measure the keyframes")
    write_option(parser)
    arguments = parser.parse_args()
    measured = arguments.quick or arguments.measure
    counted = "memory, experts" if arguments.experts else "memory"
    asked = {counted: arguments.experts or arguments.quick or not arguments.measure, "memory, measured": measured}
    page = Page(arguments.write, *(name for name, wanted in asked.items() if wanted))
    if asked[counted]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if arguments.experts:
                table = plans_table(counted_experts(folder), (16.0, 8.0, 4.0), "a step beside them")
            else:
                table = plans_table(counted_needs(published_configs(folder), PUBLISHED, torch.bfloat16))
        print(f"{table}\n")
        page.write(counted, table)
    if measured:
        with tempfile.TemporaryDirectory() as name:
            stages = ("keyframes",) if arguments.quick else tuple(arguments.stage or STAGES)
            page.write("memory, measured", compared_table(Path(name), stages))


if __name__ == "__main__":
    main()
