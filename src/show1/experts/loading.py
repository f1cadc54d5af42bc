"""Loads the components of an expert's folder, and puts them together to a pipeline of diffusers."""

import importlib
import importlib.util
import inspect
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights
from torch import nn

from show1.checkpoints.cascade import Part
from show1.checkpoints.loading import Problem, check_weights, load_weights, read_scheduler_config
from show1.checkpoints.network_configs import check_kinds, read_network_config
from show1.checkpoints.weight_files import GGUF, find_weights, read_headers, weight_variants
from show1.errors import CheckpointError, Show1Error, reason_of
from show1.expert_table import Expert
from show1.experts.family import ExpertFamily
from show1.experts.packing import check_gguf, gguf_of, read_gguf
from show1.limits import MAX_NOISE_TIMESTEPS
from show1.runtime import is_out_of_memory
from show1.stage_table import Component
from show1.text.encoder import NAMES_CODE, load_tokenizer, rename_text, set_positions


def load_pipeline(
    part: Part,
    family: ExpertFamily,
    names: Iterable[str],
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    variant: str | None = None,
    streamed: bool = False,
) -> Any:
    """Loads some components of an expert and puts them into its pipeline, whose other components are None.

    Args:
        part: The files.
        family: The family.
        names: The components to load.
        dtype: Precision of the networks.
        device: Where they go.
        variant: Weight files to prefer.
        streamed: Whether weights stay in the files, and each layer reads its own whenever it runs.

    Raises:
        CheckpointError: A file is missing, damaged, or does not fit the others.
    """
    assert part.expert is not None
    wanted = set(names)
    options: dict[str, Any] = {"device": torch.device(device), "variant": variant, "streamed": streamed}
    with quiet(), _explained(part.path):
        chosen = [component for component in part.expert.components if component.name in wanted]
        return assembled(part, family, {c.name: _load(part, c, family, dtype, **options) for c in chosen})


def assembled(part: Part, family: ExpertFamily, components: dict[str, Any]) -> Any:
    """Puts some components of an expert, by name, into its pipeline, whose other components are None."""
    assert part.expert is not None
    known = inspect.signature(family.pipeline_class.__init__).parameters
    absent = [name for name, p in known.items() if p.default is p.empty and name != "self"]
    none = dict.fromkeys([*absent, *part.expert.classes])
    pipe = family.build({**none, **components}, dict(part.expert.options))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def names_of(expert: Expert, *, text: bool) -> list[str]:
    """The components of an expert that read text, or the others."""
    return [name for name in expert.classes if name.startswith(("text_encoder", "tokenizer")) == text]


def can_stream(part: Part, names: Sequence[str]) -> bool:
    """Whether components can leave their weights in the files, whose tensors then have to be named as the network's."""
    assert part.expert is not None
    kept = [component for component in part.expert.components if component.name in names and component.has_weights]
    return all(_named_as_saved(find_class(part, component), part.path / component.name) for component in kept) and (
        not any(gguf_of(part.path / component.name) for component in kept)
    )


def _named_as_saved(cls: Any, folder: Path) -> bool:
    if issubclass(cls, diffusers.ModelMixin):
        return True
    return read_network_config(folder / "config.json").get("model_type") in _SAVED_AS_THEY_ARE


def find_class(part: Part, component: Component) -> Any:
    """The class of a component, as `model_index.json` names it.

    Raises:
        CheckpointError: diffusers and transformers have no such class.
    """
    assert part.expert is not None
    library, name = part.expert.classes[component.name]
    known = {"diffusers": diffusers, "transformers": transformers}
    module = known.get(library) or importlib.import_module(f"diffusers.pipelines.{library}")
    found = getattr(module, name, None)
    bases = (diffusers.ModelMixin, transformers.PreTrainedModel)
    if isinstance(found, type) and issubclass(found, bases):
        return found
    raise CheckpointError(
        f"{part.path}: model_index.json names the class {name!r} for {component.name}, which is no network of "
        f"{library}; correct it, or update {library}"
    )


def check_component(part: Part, component: Component, variant: str | None) -> list[Problem]:
    """Compares the weight files of a component with its config, or reads a small component whole.

    Raises:
        CheckpointError: A file cannot be read.
    """
    folder = part.path / component.name
    if component.kind == "scheduler":
        _build_scheduler(folder)
    elif component.kind == "tokenizer":
        load_tokenizer(folder)
    if not component.has_weights:
        return []
    model, files = _build_empty(find_class(part, component), folder), find_weights(folder, variant)
    if files[0].suffix == GGUF:
        check_gguf(type(model), files[0])
        return []
    if isinstance(model, transformers.PreTrainedModel) and model.config.model_type not in _SAVED_AS_THEY_ARE:
        read_headers(files[0])  # transformers renames its tensors when it reads them
        return []
    tied = frozenset(name for group in _tied(model) for name in group)
    rename = rename_text if isinstance(model, transformers.PreTrainedModel) else str
    return check_weights(model, files, rename=rename, optional=tied)


_SAVED_AS_THEY_ARE = ("t5", "umt5", "clip_text_model")
"""Kinds of text encoders whose files hold the names of their tensors, but for a prefix."""


def _load(
    part: Part,
    component: Component,
    family: ExpertFamily,
    dtype: torch.dtype,
    *,
    device: torch.device,
    variant: str | None,
    streamed: bool,
) -> Any:
    folder = part.path / component.name
    if component.kind == "scheduler":
        return _build_scheduler(folder)
    if component.kind == "tokenizer":
        return load_tokenizer(folder)
    cls = find_class(part, component)
    config = _plain_config(cls, folder)
    files = find_weights(folder, variant)
    if files[0].suffix == ".bin":
        raise CheckpointError(
            f"{files[0]} is a pickle, and experts are read from safetensors; convert it "
            f"(`show1 models convert {folder}`)"
        )
    precision = torch.float32 if component.name in family.float32 else dtype
    if files[0].suffix == GGUF:
        return read_gguf(cls, folder, files[0], precision).to(device).eval()
    if streamed:
        return _streamed(cls, folder, files, precision, device)
    own = next(v for (_, v), group in weight_variants([file.name for file in files]).items() if group)
    model, info = cls.from_pretrained(
        folder,
        **(
            {"torch_dtype": precision}
            if issubclass(cls, diffusers.ModelMixin)
            else {"dtype": precision, "config": config}
        ),
        variant=own,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    faults = [*info["missing_keys"], *info["mismatched_keys"], *info.get("error_msgs", ())]
    if faults:
        raise CheckpointError(f"{folder} lacks {faults[0]}, or holds it in another shape; download the model again")
    if odd := info["unexpected_keys"] if issubclass(cls, diffusers.ModelMixin) else ():
        raise CheckpointError(
            f"{folder} holds {sorted(odd)[0]}, which no {cls.__name__} of diffusers {diffusers.__version__} has: it is "
            "another kind of network; use a repository that diffusers can run, or update diffusers"
        )
    return model.to(device).eval()


def _streamed(cls: Any, folder: Path, files: list[Path], dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A network whose layers read their weights from the files whenever they run."""
    if issubclass(cls, diffusers.ModelMixin):
        with init_empty_weights(include_buffers=False):  # what no file holds is computed
            model = cls.from_config(_plain_config(cls, folder))
    else:
        model = _build_empty(cls, folder)
        set_positions(model, device)
    tied = frozenset(name for group in _tied(model) for name in group)
    rename = str if issubclass(cls, diffusers.ModelMixin) else rename_text
    kept: dict[str, Any] = {"dtype": dtype, "float32_modules": _kept_in_float32(model, dtype)}
    load_weights(model, files, device=device, rename=rename, optional=tied, streamed=True, **kept)
    network: nn.Module = model.eval()
    return network


def empty_component(part: Part, component: Component, family: ExpertFamily, dtype: torch.dtype) -> Any:
    """A component as `load_pipeline` would load it, with its networks on the meta device.

    Raises:
        CheckpointError: Its config is missing, or describes no network.
    """
    folder = part.path / component.name
    if component.kind == "scheduler":
        return _build_scheduler(folder)
    if component.kind == "tokenizer":
        return load_tokenizer(folder)
    model = _build_empty(find_class(part, component), folder)
    precision = torch.float32 if component.name in family.float32 else dtype
    whole = _kept_in_float32(model, precision)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(torch.float32 if set(name.split(".")) & set(whole) else precision)
    return model.eval()


def _kept_in_float32(model: Any, dtype: torch.dtype) -> Sequence[str]:
    """Parts of the names of a network's parameters that stay in float32, as its library has it."""
    if isinstance(model, transformers.PreTrainedModel) and dtype != torch.float16:
        return ()
    return tuple(getattr(model, "_keep_in_fp32_modules", None) or ()) if dtype.itemsize == 2 else ()


def _build_scheduler(folder: Path) -> diffusers.SchedulerMixin:
    config = read_scheduler_config(folder)
    cls: Any = getattr(diffusers, str(config.get("_class_name")), None)
    steps = config.get("num_train_timesteps", 1000)
    if not (isinstance(cls, type) and issubclass(cls, diffusers.SchedulerMixin)):
        raise CheckpointError(
            f"{folder} names the class {config.get('_class_name')!r}, which is no scheduler of diffusers "
            f"{diffusers.__version__}; correct `_class_name` in scheduler_config.json, or update diffusers"
        )
    if not (isinstance(steps, int) and 0 < steps <= MAX_NOISE_TIMESTEPS):
        raise CheckpointError(f"{folder}: num_train_timesteps must be from 1 to {MAX_NOISE_TIMESTEPS}, got {steps!r}")
    with _explained(folder):
        scheduler: diffusers.SchedulerMixin = getattr(cls, "from_config")(config)  # noqa: B009
    return scheduler


def _build_empty(cls: Any, folder: Path) -> nn.Module:
    """Makes a network from its config on the meta device."""
    config = _plain_config(cls, folder)
    with quiet(), _explained(folder), torch.device("meta"):
        model: nn.Module = cls.from_config(config) if issubclass(cls, diffusers.ModelMixin) else cls(config)
    return model


def _plain_config(cls: Any, folder: Path) -> Any:
    """The config of a network, without the keys by which libraries would look for code, or other kinds of weights.

    Raises:
        CheckpointError: It is missing, not JSON, or that of a network of diffusers that holds such a key.
    """
    of_diffusers = issubclass(cls, diffusers.ModelMixin)
    file = folder / "config.json"
    config = read_network_config(file)
    check_kinds(file, config, cls if of_diffusers else cls.config_class)
    if not of_diffusers:
        with _explained(folder):
            return cls.config_class.from_dict(_without_code(config))
    if odd := [name for name in config if NAMES_CODE.search(name)]:
        raise CheckpointError(
            f"{file} holds {odd[0]}, which experts are not loaded with; use a repository of plain weights"
        )
    return {name: value for name, value in config.items() if name != "_class_name"}


def _without_code(value: Any) -> Any:
    """A config, or a part of one, without the keys that match `NAMES_CODE`."""
    if not isinstance(value, dict):
        return value
    return {name: _without_code(each) for name, each in value.items() if not NAMES_CODE.search(name)}


def _tied(model: nn.Module) -> list[list[str]]:
    """Groups of names that are one tensor: embeddings that are used twice."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    known = getattr(model, "_tied_weights_keys", None) or {}
    pairs = [[name, other] for name, other in known.items()] if isinstance(known, dict) else [list(known)]
    return [group for group in names.values() if len(group) > 1] + pairs


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turns what goes wrong while a network is made of files into an error that names them."""
    try:
        yield
    except Exception as error:
        if isinstance(error, Show1Error) or is_out_of_memory(error):
            raise
        # whatever else goes wrong here, the files asked for
        raise CheckpointError(
            f"{folder} cannot be loaded ({reason_of(error):.300}); check it with `show1 models verify`"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silences what diffusers and transformers say about configs and progress while they load."""
    loggers = [logging.getLogger("diffusers"), logging.getLogger("transformers")]
    levels = [logger.level for logger in loggers]
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)  # what fails is raised
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if shown:
            transformers.utils.logging.enable_progress_bar()
