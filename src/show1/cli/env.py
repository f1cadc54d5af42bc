"""`show1 env`."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from show1.cli.console import say, say_json
from show1.cli.flags import AsJson
from show1.cli.threads import Processor

_PACKAGES = (
    "show1 torch numpy diffusers transformers tokenizers sentencepiece "
    "safetensors accelerate huggingface-hub av pillow typer rich peft tensorboard"
).split()
_VARIABLES = ("SHOW1_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES")

_OPENMP = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def env(as_json: AsJson = False) -> None:
    """Show versions, devices, memory and caches, which a bug report needs.

    Example:

    \b
      show1 env --json > report.json
    """
    facts: dict[str, dict[str, Any]] = {
        "packages": {name: _version(name) for name in _PACKAGES},
        "system": {
            "python": sys.version.split()[0],
            "executable": sys.executable,
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": Processor.look().cores,
        },
        "devices": _devices(),
        "threads": _threads(),
        "caches": _caches(),
        "media": _media(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }
    if as_json:
        say_json(facts)
        return
    for section, values in facts.items():
        say(section)
        for name, value in values.items():
            say(f"  {name:22} {_readable(name, value)}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _threads() -> dict[str, Any]:
    """What the machine is like now, and what `prepare_threads`, or the user, has chosen by it."""
    now = Processor.look()
    return {
        "load of others": round(now.load, 1),
        "limit of cores": "none" if now.quota is None else now.quota,
        "machine": "busy: threads sleep while they wait" if now.busy else "free: threads wait ready",
        **{name: os.environ[name] for name in _OPENMP if name in os.environ},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _devices() -> dict[str, Any]:
    try:
        import torch

        from show1.runtime import choose_device, choose_dtype, free_memory
    except Exception as error:  # a broken torch is what the report is about
        return {"error": f"torch cannot be imported: {type(error).__name__}: {error}"}
    default = choose_device()
    found: dict[str, Any] = {
        "default": f"{default} {choose_dtype(None, default)}".replace("torch.", ""),
        "threads": torch.get_num_threads(),
        "free_memory_bytes": free_memory(torch.device("cpu")),
        "cuda": torch.version.cuda,
        "mps": torch.backends.mps.is_available(),
    }
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = properties.name
        found[f"cuda:{index}_memory_bytes"] = properties.total_memory
    return found


def _caches() -> dict[str, Any]:
    from huggingface_hub.constants import HF_HUB_CACHE

    from show1.checkpoints.index import INDEX
    from show1.checkpoints.locate import embedded_folder
    from show1.files import cache_dir

    found: dict[str, Any] = {"embedded model": (embedded_folder() / INDEX).is_file()}
    for name, folder in (("show1", cache_dir()), ("hub", Path(HF_HUB_CACHE)), ("current", Path.cwd())):
        found[name] = str(folder)
        found[f"{name}_free_bytes"] = _free_disk(folder)
    return found


def _free_disk(folder: Path) -> int | None:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _media() -> dict[str, Any]:
    import av

    from show1.media.formats import ENCODERS

    versions = {name: ".".join(map(str, number)) for name, number in av.library_versions.items()}
    lacking = [e.name for e in ENCODERS.values() if e.name not in av.codecs_available]
    return {"libavcodec": versions.get("libavcodec"), "missing encoders": ", ".join(lacking) or "none"}


def _readable(name: str, value: Any) -> str:
    if name.endswith("_bytes") and value is not None:
        return f"{value / 1e9:.1f} GB"
    return "not installed" if value is None and "_" not in name else str(value)
