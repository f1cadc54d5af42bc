"""CLIPSIM: similarity of the frames of a video to its prompt, by CLIP (arXiv:2104.14806, CLIP: arXiv:2103.00020)."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from show1.checkpoints.hub import HubOptions, fetch
from show1.errors import CheckpointError, InputError, ModelNotFoundError
from show1.evaluation.feature_networks import NETWORKS, FeatureOptions, verified_sha256
from show1.evaluation.preprocessing import Videos, check_videos
from show1.files import cached_sha256
from show1.text.encoder import load_tokenizer, without_bars

logger = logging.getLogger(__name__)

_FRAMES_PER_BATCH = 64
_SMALL_FILES = (
    "config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
)


class ClipScore:
    """A CLIP that compares videos with prompts."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        image_processor: Any,
        *,
        path: Path,
        sha256: str,
        device: torch.device | str = "cpu",
    ) -> None:
        """Wraps a `CLIPModel` of transformers.

        Args:
            model: `CLIPModel`.
            tokenizer: Its tokenizer.
            image_processor: Its image processor, with Pillow: torchvision's rounds differently.
            path: Folder that it was loaded from.
            sha256: Hash of its weights, for reports.
            device: Device that computes.
        """
        self.path = path
        self.sha256 = sha256
        self._model = model.to(device).eval()
        self._tokenizer = tokenizer
        self._image_processor = image_processor
        self._device = device

    @classmethod
    def load(cls, where: str | Path, options: FeatureOptions) -> "ClipScore":
        """Loads a CLIP as transformers saves it.

        Args:
            where: A folder, `clip-vit-b-32`, or a Hub repository, also repository@revision.
            options: Where it computes, and the folder of feature networks: a CLIP in it, or in its subfolder of that
                name, takes precedence.

        Raises:
            ModelNotFoundError: Not on this disk, and it may not or cannot be downloaded.
            CheckpointError: A file is missing, damaged, or not the published one.
        """
        found = _find(str(where), options)
        weights = _weights(found)
        network = NETWORKS.get(str(where))
        if network is not None and weights[0].name == network.file:
            digest = verified_sha256(network, weights[0])
        else:
            digest = _joined_sha256(weights)
        model, image_processor = _load(found)
        tokenizer = load_tokenizer(found)
        return cls(model, tokenizer, image_processor, path=found, sha256=digest, device=options.device)

    def similarity(self, videos: Videos, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Computes the cosine of prompt and frame, averaged over the frames.

        Args:
            videos: (B, F, H, W, 3), uint8 RGB.
            prompts: One per video; cut to what CLIP takes (77 tokens).

        Returns:
            (B,) in [-1, 1], without torchmetrics' factor of 100.

        Raises:
            InputError: Not such videos, or another number of prompts.
        """
        checked = check_videos(videos)
        if len(prompts) != len(checked):
            raise InputError(f"each video needs one prompt: got {len(checked)} and {len(prompts)}")
        frames = self.embed_frames(checked).reshape(*checked.shape[:2], -1)  # (B, F, D)
        cosines = torch.einsum("bfd,bd->bf", frames, self.embed_prompts(prompts))
        return np.asarray(cosines.mean(1).numpy(), dtype=np.float64)

    @torch.no_grad()
    def embed_frames(self, videos: Videos) -> Tensor:
        """Embeds every frame.

        Args:
            videos: (B, F, H, W, 3), uint8 RGB.

        Returns:
            (B*F, D) of length 1, float64, on the CPU.

        Raises:
            InputError: Not such videos.
        """
        frames = check_videos(videos).flatten(0, 1).numpy(force=True)
        batches = []
        for start in range(0, len(frames), _FRAMES_PER_BATCH):
            images = list(frames[start : start + _FRAMES_PER_BATCH])
            pixels = self._image_processor(images=images, input_data_format="channels_last", return_tensors="pt")
            batches.append(_unit(self._model.get_image_features(pixel_values=pixels["pixel_values"].to(self._device))))
        return torch.cat(batches)

    @torch.no_grad()
    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Embeds prompts.

        Returns:
            (B, D) of length 1, float64, on the CPU.
        """
        length = self._model.config.text_config.max_position_embeddings
        for prompt in prompts:
            if len(self._tokenizer(prompt)["input_ids"]) > length:
                logger.warning("CLIP reads only the first %d tokens of the prompt %r", length, prompt)
        tokens = self._tokenizer(  # always the full length: a prompt's embedding must not depend on its neighbours
            list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        inputs = {name: tokens[name].to(self._device) for name in ("input_ids", "attention_mask")}
        return _unit(self._model.get_text_features(**inputs))


def _unit(output: Any) -> Tensor:
    """Embeddings (N, D) at length 1, in float64; transformers returns them directly or within an output object."""
    embeds = (output if isinstance(output, Tensor) else output.pooler_output).double().cpu()
    unit: Tensor = embeds / embeds.norm(dim=1, keepdim=True)
    return unit


def _find(where: str, options: FeatureOptions) -> Path:
    """The folder of a CLIP."""
    folder = options.folder
    places = [Path(where)] if folder is None else [folder / where, folder, Path(where)]
    for place in places:
        if (place / "config.json").is_file():
            return place
    network = NETWORKS.get(where)
    repo, _, revision = (where if network is None else str(network.address)).partition("@")
    choices = ("model.safetensors", "pytorch_model.bin") if network is None else (network.file,)
    hub = HubOptions(revision=revision or None, local_files_only=options.local_files_only)
    try:
        for weights in choices:
            path, _ = fetch(repo, (), hub, extra=(*_SMALL_FILES, weights))
            if (path / weights).is_file():
                return path
    except ModelNotFoundError as error:
        ahead = f"put {', '.join(_SMALL_FILES)} and {choices[0]} into a folder and give it"
        raise ModelNotFoundError(f"CLIP {where}: {error}; or {ahead}") from error
    raise CheckpointError(f"{repo} holds no weights of a CLIP model (looked for {', '.join(choices)})")


def _weights(folder: Path) -> list[Path]:
    """The files that transformers will read."""
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        if files := sorted(folder.glob(pattern)):
            return files
    raise CheckpointError(f"{folder} holds no weights of a CLIP model (model.safetensors or pytorch_model.bin)")


def _joined_sha256(files: list[Path]) -> str:
    """Hash of a file; of several, the hash of their hashes."""
    digests = [cached_sha256(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _load(folder: Path) -> tuple[Any, Any]:
    """Model and image processor."""
    import transformers

    # older releases give the processor that uses Pillow the plain name
    with_pillow = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    try:
        with without_bars():
            model = transformers.CLIPModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
            return model, with_pillow.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers and safetensors raise errors of many classes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{folder} is not a CLIP model as transformers saves it ({reason})") from error
