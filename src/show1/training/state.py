"""What a training has to remember to resume, as files of numbers: reading them never runs anything.

A checkpoint's folder holds the weights that learn (`model.safetensors`), their averages (`averages.safetensors`), the
optimizer's state (`optimizer.bin`), and `checkpoint.json` with a hash of each. Checkpoints of earlier versions, which
hold pickles, are read too, if these hold nothing but numbers.
"""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from show1.errors import RunError
from show1.files import read_json_object, sha256, write_atomically, write_json, write_tensors

MODEL, AVERAGES, OPTIMIZER = "model.safetensors", "averages.safetensors", "optimizer.bin"
RECORD = "checkpoint.json"

_FORMER_MODEL, _FORMER_AVERAGES = "pytorch_model.bin", "custom_checkpoint_1.pkl"
_FORMER_SCHEDULE, _FORMER_RANDOM = "custom_checkpoint_0.pkl", "random_states_*.pkl"
_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]
_NUMPY: list[Any] = [np.ndarray, np.dtype, np.dtypes.UInt32DType]
_NUMPY += [(_RECONSTRUCT, f"numpy.{name}.multiarray._reconstruct") for name in ("core", "_core")]
"""What the random states of earlier versions are made of."""


class UnusableFileError(RunError):
    """A file of a checkpoint cannot be used."""

    def __init__(self, file: Path, reason: object) -> None:
        """Takes the file, and what is wrong with it."""
        super().__init__(f"{file} {reason}")


class TrainingState:
    """All that a run has to remember.

    Args:
        task: The module whose weights learn; those that are frozen now are not kept, because `init`, `text` or `vae`
            bring them again.
        ema: Averages of the weights that learn, a diffusers `EMAModel` over these in the module's order.
        optimizer: Their optimizer.
        scaler: The scaler of the gradients of float16; None for other formats.
        processes: Number of processes that train.
    """

    def __init__(self, task: nn.Module, ema: Any, optimizer: Any, scaler: Any, processes: int) -> None:
        self._learning = {name: p for name, p in task.named_parameters() if p.requires_grad}
        parameters = {name for name, _ in task.named_parameters(remove_duplicate=False)}
        self._buffers = {name: t for name, t in task.state_dict().items() if name not in parameters}
        self._ema, self._optimizer, self._scaler, self._processes = ema, optimizer, scaler, processes

    def save(self, folder: Path, step: int) -> None:
        """Writes a checkpoint's files into a new folder.

        Args:
            folder: The folder.
            step: Number of steps done.

        Raises:
            OutputError: There is no permission, or no room.
        """
        kept = {**self._learning, **self._buffers}
        write_tensors(folder / MODEL, {name: tensor.detach().contiguous() for name, tensor in kept.items()})
        averages = dict(zip(self._learning, self._ema.shadow_params, strict=True))
        write_tensors(folder / AVERAGES, {name: tensor.contiguous() for name, tensor in averages.items()})
        state = {"optimizer": self._optimizer.state_dict(), "scaler": self._scaler and self._scaler.state_dict()}
        write_atomically(folder / OPTIMIZER, lambda partial: _save(state, partial))
        files = {name: sha256(folder / name) for name in (MODEL, AVERAGES, OPTIMIZER)}
        write_json(folder / RECORD, {"step": step, "processes": self._processes, "files": files})

    def load(self, folder: Path, step: int) -> None:
        """Puts back what a checkpoint holds.

        Args:
            folder: The checkpoint.
            step: Number of steps that it was written after.

        Raises:
            RunError: A file is missing, damaged, or holds more than numbers; or as many processes do not train now.
        """
        former = not (folder / RECORD).exists() and (folder / _FORMER_MODEL).exists()
        self._check_processes(folder, _former_processes(folder) if former else _checked_record(folder, step))
        if former:
            model = _FORMER_MODEL, _without_prefix(_plain(folder / _FORMER_MODEL))
            averages = _FORMER_AVERAGES, self._former_averages(folder)
            state = {"optimizer": _plain(folder / OPTIMIZER), "scaler": None}
            for file in (folder / _FORMER_SCHEDULE, *sorted(folder.glob(_FORMER_RANDOM))):
                _plain(file)  # not needed, but a damaged checkpoint must not pass for a whole one
        else:
            model, averages = (MODEL, _tensors(folder / MODEL)), (AVERAGES, _tensors(folder / AVERAGES))
            state = _plain(folder / OPTIMIZER)
        _copy(folder / model[0], model[1], {**self._learning, **({} if former else self._buffers)})
        shadows = dict(zip(self._learning, self._ema.shadow_params, strict=True))
        _copy(folder / averages[0], averages[1], shadows)
        self._ema.optimization_step = step
        try:
            self._optimizer.load_state_dict(state["optimizer"])
            if self._scaler is not None:
                self._scaler.load_state_dict(state["scaler"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
            raise UnusableFileError(
                folder / OPTIMIZER, f"does not fit the network that is trained ({error})"
            ) from error

    def _former_averages(self, folder: Path) -> dict[str, Any]:
        file = folder / _FORMER_AVERAGES
        averages = _plain(file).get("shadow_params")
        if not isinstance(averages, list) or len(averages) != len(self._learning):
            raise UnusableFileError(file, "does not hold the averages of the weights that learn")
        return dict(zip(self._learning, averages, strict=True))

    def _check_processes(self, folder: Path, before: object) -> None:
        if before != self._processes:
            raise RunError(
                f"{folder.parent.parent} holds a run of {before} process{'' if before == 1 else 'es'}, and now "
                f"{self._processes} would go on with other batches; start as many as before, or choose another folder"
            )


def _save(state: Any, file: Path) -> None:
    """Pickles numbers, with errors of the disk as such."""
    with file.open("wb") as opened:
        try:
            torch.save(state, opened)
        except RuntimeError as error:  # torch hides why a file cannot be written
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def _checked_record(folder: Path, step: int) -> object:
    """Compares a checkpoint's files with their hashes; gives the number of processes that wrote it."""
    try:
        record = read_json_object(folder / RECORD)
        files, processes = record["files"], record["processes"]
        if record["step"] != step or set(files) != {MODEL, AVERAGES, OPTIMIZER}:
            raise ValueError(f"it is of step {record['step']}, with {', '.join(files)}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableFileError(folder / RECORD, f"is damaged ({error})") from error
    for name, digest in files.items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise UnusableFileError(folder / name, "is damaged: it is not what was written")
    return processes


def _former_processes(folder: Path) -> int:
    return len(list(folder.glob(_FORMER_RANDOM)))


def _without_prefix(state: Mapping[str, Any]) -> dict[str, Any]:
    """Weights by the task's own names, also if a wrapper for several processes saved them."""
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise UnusableFileError(file, f"is damaged ({error})") from error
    return tensors


def _plain(file: Path) -> dict[str, Any]:
    """Reads a pickle of tensors, numbers and texts, without running what else it may hold."""
    if not file.is_file():
        raise UnusableFileError(file, "is missing")
    try:
        with torch.serialization.safe_globals(_NUMPY), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that torch did not write
            value = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        reason = f"is damaged, or holds more than numbers, and code in such files is never run ({line})"
        raise UnusableFileError(file, reason) from error
    if not isinstance(value, dict):
        raise UnusableFileError(file, "is damaged: it holds no named values")
    return value


def _copy(file: Path, found: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> None:
    """Copies tensors by name into those that are in use."""
    for name, tensor in wanted.items():
        given = found.get(name)
        if not isinstance(given, Tensor) or given.shape != tensor.shape:
            shape = list(given.shape) if isinstance(given, Tensor) else "missing"
            reason = f"does not fit the network that is trained: {name} is {shape}, and must be {list(tensor.shape)}"
            raise UnusableFileError(file, reason)
        with torch.no_grad():
            tensor.copy_(given)
