"""The memory of a computation, counted without computing it."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are made while it is active, and alive; no workspaces of kernels."""

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        """Starts at nothing.

        Args:
            known: Tensors of any shape that are not counted, such as weights.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        """Bytes that are alive now."""
        self.peak = 0
        """The most bytes that were alive at a time."""
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}
        self._references: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return True if args[0].dtype == torch.bool else 1  # such as whether a mask leaves out nothing
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else (out,):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)

        def forget(_: object) -> None:
            self.live -= size
            self._seen.discard(key)
            self._references.pop(key, None)

        self._references[key] = weakref.ref(storage, forget)


class _FusedAttention(TorchFunctionMode):
    """Attention as fused kernels compute it: only the output takes memory, no matrix of all pairs."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            query, value = named["query"], named["value"]
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        return func(*args, **(kwargs or {}))


def peak_of_call(module: torch.nn.Module, call: Callable[[], object]) -> int:
    """Bytes that a call of a module on the meta device would take at its peak, beside the weights.

    Args:
        module: On the meta device.
        call: Calls it with arguments on the meta device.
    """
    tensors = LiveTensors([*module.parameters(), *module.buffers()])
    with torch.no_grad(), _FusedAttention(), tensors:
        call()
    return tensors.peak
