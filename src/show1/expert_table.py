"""The families of latent video models that can take the place of the cascade's own translation, one row per variant.

A family says in its row what must be known before any of it is loaded, and in its class (`show1.experts.family`) how
its pipeline of diffusers is used. A family outside of this package adds its row with `register_expert`; see
docs/experts.md. Imports are light, as in `show1.stage_table`.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from show1.errors import CheckpointError
from show1.stage_table import Component

PIPELINE_INDEX = "model_index.json"
"""The file of a repository of diffusers that names the pipeline and its components."""
EXPERT_SETTINGS: Mapping[str, Any] = {"max_batch": 1, "negative_prompt": ""}
"""Changes of the translation's settings that suit all families: a video of a large network fills a card."""
ENTRY_POINTS = "show1.experts"
"""The group of entry points by which installed packages add families: each names a module that registers its rows."""


@dataclass(frozen=True, kw_only=True)
class ExpertRow:
    """What must be known of a family of experts to find, check, download and set up a model of it."""

    name: str
    """Name for people, such as `wan`."""
    pipelines: tuple[str, ...]
    """Names of the pipeline's class (`_class_name`) in the `model_index.json` of its repositories."""
    implementation: str | type
    """The class of the family, or where it is: `module:Class`."""
    settings: Mapping[str, Any]
    """Changes of the translation's settings that suit it: level, steps, guidance, height, width."""
    fps: float
    """Frames per second of the videos that it was trained on."""
    max_frames: int
    """Most frames of the videos that it was trained on."""
    max_level: float = 1.0
    """Highest noise level that its network was trained on."""
    unused: tuple[str, ...] = ()
    """Components of its repositories that an expert never needs; they are neither downloaded nor loaded."""
    libraries: tuple[str, ...] = ()
    """Modules of `diffusers.pipelines` that hold classes of its components."""
    matches: Callable[[Mapping[str, Any]], bool] = lambda index: True
    """Tells by `model_index.json` whether a model of these pipelines belongs to this row."""
    network: Callable[[Mapping[str, Any]], bool] | None = None
    """Tells by the transformer's `config.json` whether it does; None: its index is enough. On the Hub, that file is
    fetched with the components of a row that needs no look at it."""
    repository: str = ""
    """A published model of it on the Hugging Face Hub."""
    about: str = ""
    """A line about that model: size and licence."""

    def family(self) -> Any:
        """The class of the family, a `show1.experts.ExpertFamily`, which is imported now."""
        if not isinstance(self.implementation, str):
            return self.implementation
        module, _, name = self.implementation.partition(":")
        return getattr(importlib.import_module(module), name)


@dataclass(frozen=True, kw_only=True)
class Expert:
    """A model of a family, as its `model_index.json` describes it."""

    row: ExpertRow
    """The family."""
    classes: Mapping[str, tuple[str, str]]
    """Library and class of each component that is used, by the name of its subfolder."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Values in the index that are no components, such as `boundary_ratio`."""

    @property
    def components(self) -> tuple[Component, ...]:
        """The subfolders that are used."""
        return tuple(Component(name, _kind(name)) for name in self.classes)


def _kind(name: str) -> Any:
    for kind in ("tokenizer", "scheduler"):
        if name.startswith(kind):
            return kind
    return "tokenizer" if "processor" in name or "extractor" in name else "expert"


def _of_5_billion(network: Mapping[str, Any]) -> bool:
    """Whether a transformer of Wan works on the latents of Wan 2.2 TI2V 5B."""
    return network.get("in_channels") == 48


_BUILT_IN = (
    ExpertRow(
        name="wan-2.2-low-noise",
        pipelines=("WanPipeline",),
        matches=lambda index: index.get("boundary_ratio") is not None,
        implementation="show1.experts.wan:Wan",
        # the network for levels above the boundary is that of the first steps, which the keyframes take the place of
        unused=("transformer",),
        # Wan-Video/Wan2.2 wan_t2v_A14B: 40 steps, guidance of the low-noise network 3.0, boundary 0.875
        settings={"level": 0.75, "num_inference_steps": 40, "guidance_scale": 3.0, "height": 480, "width": 832},
        max_level=0.875,
        fps=16.0,
        max_frames=81,
        repository="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
        about="14 billion parameters (the low-noise network alone), Apache-2.0",
    ),
    ExpertRow(
        name="wan-2.2-5b",
        pipelines=("WanPipeline",),
        network=_of_5_billion,
        implementation="show1.experts.wan:Wan",
        # Wan-Video/Wan2.2 wan_ti2v_5B: 50 steps, guidance 5.0, 24 frames per second
        settings={"level": 0.7, "num_inference_steps": 50, "guidance_scale": 5.0, "height": 704, "width": 1280},
        fps=24.0,
        max_frames=121,
        repository="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        about="5 billion parameters, Apache-2.0",
    ),
    ExpertRow(
        name="fastwan-5b",
        pipelines=("WanDMDPipeline",),
        network=_of_5_billion,
        implementation="show1.experts.wan:FastWan",
        settings={"level": 0.757, "num_inference_steps": 3, "guidance_scale": 1.0, "height": 704, "width": 1280},
        fps=24.0,
        max_frames=121,
        repository="FastVideo/FastWan2.2-TI2V-5B-FullAttn-Diffusers",
        about="5 billion parameters, distilled to 3 steps, Apache-2.0",
    ),
    ExpertRow(
        name="fastwan",
        pipelines=("WanDMDPipeline",),
        implementation="show1.experts.wan:FastWan",
        # hao-ai-lab/FastVideo: distilled to timesteps 1000, 757 and 522, without guidance
        settings={"level": 0.757, "num_inference_steps": 3, "guidance_scale": 1.0, "height": 480, "width": 832},
        fps=16.0,
        max_frames=81,
    ),
    ExpertRow(
        name="wan",
        pipelines=("WanPipeline",),
        implementation="show1.experts.wan:Wan",
        # diffusers' WanVideoToVideoPipeline: 50 steps, guidance 5.0
        settings={"level": 0.7, "num_inference_steps": 50, "guidance_scale": 5.0, "height": 480, "width": 832},
        fps=16.0,
        max_frames=81,
        repository="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        about="1.3 billion parameters, Apache-2.0",
    ),
    ExpertRow(
        name="cogvideox-1.5",
        pipelines=("CogVideoXPipeline", "CogVideoXVideoToVideoPipeline"),
        network=lambda network: network.get("patch_size_t") is not None,
        implementation="show1.experts.cogvideox:CogVideoX",
        # diffusers' documentation of CogVideoX 1.5: 81 frames of 768x1360 at 16 per second, 50 steps, guidance 6.0
        settings={"level": 0.7, "num_inference_steps": 50, "guidance_scale": 6.0, "height": 768, "width": 1360},
        fps=16.0,
        max_frames=81,
        repository="THUDM/CogVideoX1.5-5B",
        about="5 billion parameters, CogVideoX licence",
    ),
    ExpertRow(
        name="cogvideox",
        pipelines=("CogVideoXPipeline", "CogVideoXVideoToVideoPipeline"),
        implementation="show1.experts.cogvideox:CogVideoX",
        # diffusers' CogVideoXPipeline: 50 steps, guidance 6.0, 480x720
        settings={"level": 0.7, "num_inference_steps": 50, "guidance_scale": 6.0, "height": 480, "width": 720},
        fps=8.0,
        max_frames=49,
        repository="THUDM/CogVideoX-2b",
        about="2 billion parameters, 8 frames per second as the cascade, Apache-2.0",
    ),
    ExpertRow(
        name="ltx-video",
        pipelines=("LTXPipeline", "LTXConditionPipeline"),
        implementation="show1.experts.ltx:LTX",
        # diffusers' LTXPipeline: 50 steps, guidance 3; its second pass on an enlarged video begins at level 0.932
        settings={
            "level": 0.9,
            "num_inference_steps": 50,
            "guidance_scale": 3.0,
            "height": 512,
            "width": 704,
            "window": None,
        },
        fps=24.0,
        max_frames=161,
        repository="Lightricks/LTX-Video",
        about="2 or 13 billion parameters, LTXV licence",
    ),
    ExpertRow(
        name="ltx-2",
        pipelines=("LTX2Pipeline", "LTX2ConditionPipeline"),
        implementation="show1.experts.ltx:LTX2",
        libraries=("ltx2",),
        unused=("vocoder", "processor", "prompt_enhancer", "duration_head"),  # sound, and writing prompts
        # diffusers' LTX2Pipeline: 30 steps, guidance 3; its second pass begins at level 0.909375
        settings={
            "level": 0.909375,
            "num_inference_steps": 30,
            "guidance_scale": 3.0,
            "height": 512,
            "width": 768,
            "window": None,
        },
        fps=24.0,
        max_frames=121,
        repository="Lightricks/LTX-2",
        about="19 billion parameters, LTX-2 community licence",
    ),
    ExpertRow(
        name="hunyuan-video",
        pipelines=("HunyuanVideoPipeline",),
        implementation="show1.experts.hunyuan:HunyuanVideo",
        # diffusers' HunyuanVideoPipeline: 50 steps, guidance 6.0
        settings={"level": 0.7, "num_inference_steps": 50, "guidance_scale": 6.0, "height": 544, "width": 960},
        fps=24.0,
        max_frames=129,
        repository="hunyuanvideo-community/HunyuanVideo",
        about="13 billion parameters, Tencent community licence (not in the EU)",
    ),
)

EXPERTS: dict[str, ExpertRow] = {row.name: row for row in _BUILT_IN}
"""All rows by name; of several that know a pipeline, the first that matches is taken."""


def register_expert(row: ExpertRow) -> None:
    """Adds a family, before those that are there already."""
    others = {name: other for name, other in EXPERTS.items() if name != row.name}
    EXPERTS.clear()
    EXPERTS.update({row.name: row, **others})


def read_expert(index: Mapping[str, Any], where: object, network: Mapping[str, Any] | None = None) -> Expert:
    """Finds the family of a model.

    Args:
        index: Its `model_index.json`.
        where: The folder or repository, for messages.
        network: The `config.json` of its transformer; None: it is not known, and rows that ask for it are passed over.

    Raises:
        CheckpointError: No family is made of such pipelines, or a component is of a library other than diffusers and
            transformers.
    """
    pipeline = index.get("_class_name")
    row = _find(pipeline, index, network)
    if row is None:
        for entry in metadata.entry_points(group=ENTRY_POINTS):
            entry.load()
        row = _find(pipeline, index, network)
    if row is None:
        known = sorted({name for each in EXPERTS.values() for name in each.pipelines})
        raise CheckpointError(
            f"{where} holds a pipeline of the class {pipeline!r}, and no family of experts is made of it; there are "
            f"{', '.join(known)} (docs/experts.md says how to add one)"
        )
    classes: dict[str, tuple[str, str]] = {}
    for name, value in index.items():
        if not (isinstance(value, list) and len(value) == 2) or name in row.unused or None in value:
            continue
        library, class_name = map(str, value)
        if library not in ("diffusers", "transformers", *row.libraries):
            raise CheckpointError(
                f"{where}: model_index.json names the library {library!r} for {name}, and show1 loads only classes of "
                "diffusers and transformers; use a repository in the format of diffusers"
            )
        classes[name] = (library, class_name)
    options = {name: value for name, value in index.items() if not isinstance(value, list) and name[:1] != "_"}
    return Expert(row=row, classes=classes, options=options)


def _find(pipeline: object, index: Mapping[str, Any], network: Mapping[str, Any] | None) -> ExpertRow | None:
    rows = (row for row in EXPERTS.values() if pipeline in row.pipelines and row.matches(index))
    return next((r for r in rows if r.network is None or (network is not None and r.network(network))), None)
