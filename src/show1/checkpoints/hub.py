"""Downloads from the Hugging Face Hub, with its errors turned into show1's."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from show1.checkpoints.names import KNOWN_MODELS, near_name
from show1.checkpoints.weight_files import pick_weights
from show1.errors import GatedModelError, ModelNotFoundError, OutputError, Show1Error


@dataclass(frozen=True, kw_only=True)
class HubOptions:
    """Version of a model on the Hub, and whether to download it."""

    variant: str | None = None
    """Weight files to prefer, such as `fp16`."""
    revision: str | None = None
    """Branch, tag or commit."""
    local_files_only: bool = False
    """Whether to look only in the Hub's cache."""


def download_advice(repo: str) -> str:
    """Returns advice on how to get a repository's files onto a machine without a connection."""
    return (
        f"download it ahead where there is a connection (`show1 models download {repo}`, or `hf download {repo}`) and "
        "copy the Hub's cache (HF_HOME, by default ~/.cache/huggingface), or give a local folder"
    )


def select_files(
    names: Sequence[str], components: Sequence[str], variant: str | None, extra: Sequence[str] = ()
) -> list[str]:
    """Chooses the files of a repository to download: all small files of the components, and one set of weights each.

    Args:
        names: All files of the repository.
        components: Subfolders.
        variant: Weight files to prefer, such as `fp16`.
        extra: Files beside the components.

    Returns:
        The files to download.
    """
    chosen = [n for n in names if n in ("model_index.json", *extra)]
    for component in components:
        inside = [n[len(component) + 1 :] for n in names if n.startswith(f"{component}/")]
        inside = [n for n in inside if "/" not in n]
        small = [n for n in inside if n.endswith((".json", ".txt", ".model"))]
        chosen += [f"{component}/{n}" for n in (*small, *(w for w in pick_weights(inside, variant)))]
    return chosen


def fetch(repo: str, components: Sequence[str], options: HubOptions, extra: Sequence[str] = ()) -> tuple[Path, str]:
    """Downloads a repository's components, or finds them in the Hub's cache.

    Args:
        repo: Name of the repository, such as `showlab/show-1-base`.
        components: Subfolders.
        options: Version of the model.
        extra: Files beside the components.

    Returns:
        The folder that holds them, and repo@commit.

    Raises:
        ModelNotFoundError: There is no such repository, no access to it, or it is neither in the cache nor reachable.
    """
    from huggingface_hub import HfApi, snapshot_download

    offline_reason: Exception | None = None
    patterns = None
    if not options.local_files_only:
        try:
            info = HfApi().model_info(repo, revision=options.revision, timeout=20)
            names = [s.rfilename for s in info.siblings or []]
            patterns = select_files(names, components, options.variant, extra)
        except Exception as error:  # the transport raises errors of many classes
            offline_reason = error  # without access or connection, the cache may still have it
    if patterns is None:  # without a list of the files, take those in the cache
        patterns = ["model_index.json", *extra, *(f"{c}/*.json" for c in components)]
    elif not patterns:
        raise ModelNotFoundError(f"{repo} on the Hub holds no files of a Show-1 stage or cascade{near_name(repo)}")
    try:
        path = snapshot_download(
            repo,
            revision=options.revision,
            allow_patterns=patterns,
            local_files_only=options.local_files_only or offline_reason is not None,
        )
    except Exception as error:
        raise _explain(offline_reason or error, repo) from error
    return Path(path), f"{repo}@{Path(path).name}"


def _explain(error: Exception, repo: str) -> Show1Error:
    """Turns an error of the Hub's client into one of show1's."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return GatedModelError(
            f"{repo} asks for its licence to be accepted first: accept it at https://huggingface.co/{repo}, then log "
            "in with `hf auth login`"
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelNotFoundError(
            f"the Hub has no repository {repo!r} (or it is private: `hf auth login`){near_name(repo)}; known models: "
            f"{', '.join(KNOWN_MODELS)}"
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFoundError(f"{repo} has no such revision on the Hub; leave `revision` out for the newest")
    if isinstance(error, OfflineModeIsEnabled):
        return ModelNotFoundError(
            f"{repo} is not on this disk and HF_HUB_OFFLINE is set; unset it, or {download_advice(repo)}"
        )
    if isinstance(error, LocalEntryNotFoundError):
        return ModelNotFoundError(f"{repo} is not on this disk; {download_advice(repo)}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
        return OutputError(f"{repo} cannot be stored in the Hub's cache ({error}); make room, or set HF_HOME elsewhere")
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ModelNotFoundError(
        f"{repo} is not on this disk and the Hub cannot be reached ({reason}); check the connection, or "
        f"{download_advice(repo)}"
    )
