"""What an expert takes of memory, found by tracing its pipeline without weights."""

import functools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from show1.checkpoints.cascade import Part
from show1.checkpoints.storage import TextStorage, largest_layer_bytes, weight_bytes
from show1.config import TranslationSettings
from show1.errors import Show1Error, reason_of
from show1.experts.expert import DiffusersExpert, multiples_of
from show1.experts.family import ExpertFamily, Texts
from show1.experts.frames import padded_shape
from show1.experts.loading import assembled, can_stream, empty_component, names_of
from show1.experts.packing import packed_bytes, saved_by_gguf
from show1.experts.placing import cast_to_fp8
from show1.runtime.plan import Need
from show1.runtime.tracing import peak_of_call

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExpertNeeds:
    """What the two parts of an expert take."""

    text: Need
    """Its text encoders, for one prompt."""
    networks: Need
    """Its other networks."""


def expert_needs(
    part: Part,
    settings: TranslationSettings,
    *,
    frames: int,
    prompts: int,
    dtype: torch.dtype,
    device: torch.device,
    text_device: torch.device,
    loras: bool = False,
    stored: TextStorage | None = None,
) -> ExpertNeeds | None:
    """Counts the memory of an expert: one step of its pipeline, and coding, on the meta device.

    Args:
        part: Its files.
        settings: Of the translation.
        frames: Frames of the video.
        prompts: How many it computes.
        dtype: Precision of the networks.
        device: Where they are to compute.
        text_device: Where its text encoders are to compute.
        loras: Whether LoRA files change its networks.
        stored: How the linear layers of its text encoders are stored; None: as they are computed.

    Returns:
        None, with a warning, if its pipeline cannot be traced.

    Raises:
        CheckpointError: A config is missing, or describes no network.
    """
    assert part.expert is not None
    family: ExpertFamily = part.expert.row.family()()
    try:
        text, states = _text(part, family, dtype, text_device, stored)
        networks = _networks(part, family, settings, states, frames=frames, dtype=dtype)
    except Show1Error:
        raise
    except Exception as error:  # a stranger's pipeline may do anything
        name, reason = part.expert.row.name, reason_of(error)
        logger.warning("the expert %r keeps to no memory budget: its memory cannot be counted (%.200s)", name, reason)
        return None
    packed = settings.weights in ("int8", "int4")  # whose layers stay where they are
    from_files = not loras and can_stream(part, names_of(part.expert, text=False))
    streamable = not packed and (device.type == "cuda" or from_files)
    samples = min(prompts, settings.max_batch or prompts)
    return ExpertNeeds(text=text, networks=networks(samples=samples, streamable=streamable))


def _text(
    part: Part, family: ExpertFamily, dtype: torch.dtype, device: torch.device, stored: TextStorage | None
) -> tuple[Need, Texts]:
    """What the text encoders take, and text states (1, ...) on the meta device, of both halves of guidance."""
    assert part.expert is not None
    names = names_of(part.expert, text=True)
    pipe, networks = _empty_pipeline(part, family, names, dtype)
    states: Texts = {}
    peak = peak_of_call(networks, lambda: states.update(family.text_of(pipe, "a")))
    both = {f"{half}{name}": value for half in ("", "negative_") for name, value in states.items()}
    weights = weight_bytes(networks)
    if stored is not None:
        weights = sum(packed_bytes(network, stored) for network in networks)
    need = Need(
        weights=weights,
        largest_layer=largest_layer_bytes(networks),
        row=peak,
        streamable=device.type == "cuda" or can_stream(part, names),
    )
    return need, both


def _networks(
    part: Part, family: ExpertFamily, settings: TranslationSettings, text: Texts, *, frames: int, dtype: torch.dtype
) -> Callable[..., Need]:
    """What the other networks take, but for the number of samples and whether weights can be streamed."""
    assert part.expert is not None
    pipe, networks = _empty_pipeline(part, family, names_of(part.expert, text=False), dtype)
    pipe.scheduler = _one_step(pipe.scheduler)
    shown = (1 + (frames - 1) * settings.time_factor, settings.height, settings.width)
    shape = padded_shape(shown, **multiples_of(family, pipe))
    other, tiled = _coding_peak(family, pipe, networks, shape), None
    size = family.tile_size(pipe)
    if size is not None and (shape[1] > size[0] or shape[2] > size[1]):
        tile = (shape[0], min(shape[1], size[0]), min(shape[2], size[1]))
        tiles = 2 * _video_bytes(shape)  # all are kept, with what they share, until they are put together
        tiled = _coding_peak(family, pipe, networks, tile) + tiles + _video_bytes(shape)
    weights, largest = weight_bytes(networks), largest_layer_bytes(networks)
    row = _step_peak(family, pipe, networks, settings, text, shape)
    in_gguf = saved_by_gguf([(part.path / name, n) for name, n in pipe.components.items() if isinstance(n, nn.Module)])
    small: int | None = None
    if in_gguf:
        weights += largest - in_gguf  # a layer's at a time are unpacked
    elif settings.weights in ("int8", "int4"):
        weights += packed_bytes(pipe.transformer, settings.weights) - weight_bytes(pipe.transformer)
    elif cast_to_fp8(pipe, dtype):
        small = weight_bytes(networks) + largest  # a layer's at a time are converted
    return functools.partial(
        Need,
        weights=small if small is not None and settings.weights == "fp8" else weights,
        largest_layer=largest,
        row=row,
        other=other,
        tiled=tiled,
        fp8=small if settings.weights == "plain" else None,
    )


def _step_peak(
    family: ExpertFamily,
    pipe: Any,
    networks: nn.Module,
    settings: TranslationSettings,
    text: Texts,
    shape: tuple[int, int, int],
) -> int:
    """The peak of a step with a video of so many frames and such a size."""
    expert = DiffusersExpert(lambda _: pipe, family)
    options: dict[str, Any] = {"steps": 2, "guidance": settings.guidance_scale, "on_step": lambda _: None}
    with torch.no_grad():
        clean = family.encode(pipe, torch.empty(1, 3, *shape, device="meta"))

    def step() -> object:
        with expert.windowed(settings, shape[0], clean):
            return family.denoise(pipe, clean, text, size=shape, generators=[torch.Generator()], **options)

    return clean.nbytes + peak_of_call(networks, step)


def _coding_peak(family: ExpertFamily, pipe: Any, networks: nn.Module, shape: tuple[int, int, int]) -> int:
    """The peak of the autoencoder; of many frames it follows from those of few, with which it grows evenly."""
    multiple = family.frame_multiple(pipe)
    few = [min(shape[0], 1 + multiple * count) for count in (2, 4)]
    peaks = [_short_peaks(family, pipe, networks, (frames, *shape[1:])) for frames in dict.fromkeys(few)]
    if shape[0] <= few[1]:
        return max(peaks[-1])
    further = (shape[0] - few[1]) / (few[1] - few[0])
    return max(int(more + (more - less) * further) for less, more in zip(*peaks, strict=True))


def _short_peaks(family: ExpertFamily, pipe: Any, networks: nn.Module, shape: tuple[int, int, int]) -> tuple[int, int]:
    """The peaks of encoding and of decoding a video, with the video itself."""
    video = torch.empty(1, 3, *shape, device="meta")
    clean: list[Tensor] = []
    encoding = peak_of_call(networks, lambda: clean.append(family.encode(pipe, video)))
    decoding = peak_of_call(networks, lambda: family.decode(pipe, clean[0], [torch.Generator()]))
    return encoding + video.nbytes, decoding + video.nbytes


def _video_bytes(shape: tuple[int, int, int]) -> int:
    return 3 * 4 * shape[0] * shape[1] * shape[2]


def _empty_pipeline(
    part: Part, family: ExpertFamily, names: Iterable[str], dtype: torch.dtype
) -> tuple[Any, nn.ModuleList]:
    """A pipeline of some components on the meta device, and its networks."""
    assert part.expert is not None
    wanted = set(names)
    components = [component for component in part.expert.components if component.name in wanted]
    found = {component.name: empty_component(part, component, family, dtype) for component in components}
    return assembled(part, family, found), nn.ModuleList(v for v in found.values() if isinstance(v, nn.Module))


def _one_step(scheduler: Any) -> Any:
    """A copy of a scheduler with a single step, which computes nothing, on the meta device."""
    base: Any = type(scheduler)

    class OneStep(base):  # type: ignore[misc]
        @functools.wraps(base.set_timesteps)  # pipelines look at its signature
        def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
            on_cpu = {"device": "cpu"} if "device" in kwargs else {}
            super().set_timesteps(*args, **{**kwargs, **on_cpu})
            self.timesteps: Tensor = self.timesteps[:1].to("meta")

        def step(self, model_output: Tensor, timestep: Any, sample: Tensor, *_: Any, **__: Any) -> Any:
            return sample, sample

    return OneStep.from_config(scheduler.config)
