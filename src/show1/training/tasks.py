"""What each stage learns: networks, a loss on a batch, samples to look at, and the folder that inference loads.

A task is one module whose forward gives the loss, so that it can be wrapped for many processes as a whole. All its
randomness comes from the global generator, which the trainer seeds for every step.
"""

import copy
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from show1.checkpoints.loading import load_latent_unet, load_unet, load_vae, read_scheduler_config
from show1.config import InterpolationSettings, KeyframesSettings, SuperResolutionSettings
from show1.data.folder import read_captions
from show1.diffusion import IndependentSeeds, add_noise, build_scheduler, fold_frames, unfold_frames
from show1.errors import InputError
from show1.files import write_json
from show1.networks import UNet3DConditionModel
from show1.sprites.captions import DIRECTIONS, TURNED, CaptionFacts, plural, read_caption, vocabulary
from show1.sprites.groups import ARRANGEMENTS
from show1.sprites.world import BACKGROUNDS, MOTIONS, SUBJECTS
from show1.stages import InterpolationStage, KeyframesStage, SuperResolutionStage, interpolation, super_resolution
from show1.stages.stage import PromptEmbeddings
from show1.stages.super_resolution import upsample
from show1.stages.translation import encode
from show1.training import networks
from show1.training.config import TrainingConfig
from show1.training.corruption import corrupted, left_by_super_resolution, left_in
from show1.training.graphs import recorded
from show1.training.objective import draw_timesteps, moved, noise_of, prediction_loss

Sample = tuple[str, Tensor]
"""A caption and a video (3, F, H, W) in about [-1, 1]."""

Batch = dict[str, Any]
"""A collated batch of `show1.data.ClipDataset`: "video" (B, 3, F, H, W), "caption" (list), "low" (B, 3, F, h, w)."""


MAX_TEXT_TOKENS = 77
"""Tokens of a caption at most, as of the published networks."""


def _words(config: TrainingConfig) -> list[str]:
    """The words of all captions."""
    if config.data == "sprites":
        return vocabulary(groups=config.groups > 0)
    return sorted({word for entry in read_captions(Path(config.data)) for word in networks.split_words(entry.caption)})


class TextConditioner(nn.Module):
    """Captions to text states with a small T5."""

    def __init__(self, tokenizer: Any, text_encoder: nn.Module) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder

    @classmethod
    def fresh(cls, config: TrainingConfig) -> "TextConditioner":
        """An encoder for the words of the training's captions."""
        tokenizer = networks.word_tokenizer(_words(config))
        return cls(tokenizer, networks.fresh_text_encoder(config.network, len(tokenizer)))

    @classmethod
    def from_folder(cls, folder: str | Path) -> "TextConditioner":
        from transformers import AutoTokenizer, T5EncoderModel

        folder = Path(folder)
        if not (folder / "text_encoder").is_dir():
            raise InputError(f"text: {folder} holds no text_encoder/; name the export of a keyframes training")
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        return cls(tokenizer, T5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32))

    def forward(self, captions: list[str]) -> Tensor:
        """Returns (B, L, D)."""
        tokens = self.tokenize(captions)
        device = next(self.text_encoder.parameters()).device
        out = self.text_encoder(
            input_ids=moved(tokens.input_ids, device), attention_mask=moved(tokens.attention_mask, device)
        ).last_hidden_state
        return out  # type: ignore[no-any-return]

    @property
    def width(self) -> int:
        """Channels of the states."""
        return int(self.text_encoder.config.d_model)  # type: ignore[union-attr, arg-type]

    def tokenize(self, captions: list[str]) -> Any:
        """Token ids and attention mask (B, L)."""
        length = min(self.tokenizer.model_max_length, MAX_TEXT_TOKENS)
        return self.tokenizer(captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt")

    @property
    def knows_words(self) -> bool:
        """Whether the tokenizer knows whole words alone; others spell any word out."""
        from tokenizers.models import WordLevel

        return isinstance(self.tokenizer.backend_tokenizer.model, WordLevel)

    def add_words(self, words: list[str]) -> None:
        """Gives each word that a word-level tokenizer does not know a token of its own, with random weights.

        A plural begins near its singular. What the encoder makes of texts without these words stays as it is.
        """
        from tokenizers import AddedToken

        known = self.tokenizer.get_vocab()
        new = [word for word in words if word not in known]
        if not new:
            return
        self.tokenizer.add_tokens([AddedToken(word, single_word=True) for word in new])
        self.text_encoder.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)  # type: ignore[operator]
        rows = self.text_encoder.get_input_embeddings().weight  # type: ignore[operator]
        singulars = {plural(name).split()[-1]: name.split()[-1] for name in SUBJECTS}
        for word in new:
            generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(word.encode()).digest()[:8]) >> 1)
            with torch.no_grad():
                row = torch.randn(rows.shape[1], generator=generator)
                row = row * rows[: len(known)].std()
                if singulars.get(word) in known:
                    row = rows[known[singulars[word]]] + row / 2
                rows[self.tokenizer.convert_tokens_to_ids(word)] = row

    def save(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder / "tokenizer")
        self.text_encoder.save_pretrained(folder / "text_encoder")  # type: ignore[operator]


class Task(nn.Module, ABC):
    """What a training loop needs of a task."""

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars of a batch: "loss", which is minimised, and others for the log."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Writes the stage folder that inference loads."""

    @abstractmethod
    def preview(self, batch: Batch) -> list[Sample]:
        """What to look at, for the first captions of a batch."""

    def new_parameters(self) -> set[str]:
        """Names of the parameters that no `init` brought: they get the full learning rate."""
        return {name for name, _ in self.named_parameters()}


class StageTask(Task):
    """Common part of the tasks that train a stage."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self.config = config


_TOLD = {
    "subject": len(SUBJECTS),
    "motion": len(MOTIONS),
    "background": len(BACKGROUNDS),
    "other": len(SUBJECTS) + 1,
    "arrangement": len(ARRANGEMENTS) + 1,
    "turned": len(TURNED) + 2,
    "direction": len(DIRECTIONS) + 1,
}
"""What the text encoder learns to tell, and among how many; from "other" on the last one stands for nothing told."""


def _classes(said: CaptionFacts) -> dict[str, int]:
    """The class of each of `_TOLD`; -100, which losses leave out, where no motion, subject or background is told."""
    nothing = {
        name: -100 if name in ("subject", "motion", "background") else count - 1 for name, count in _TOLD.items()
    }
    values = {name: getattr(said, name) for name in _TOLD}
    return {name: nothing[name] if value is None else int(value) for name, value in values.items()}


class TextTask(StageTask):
    """A small text encoder that tells what captions of the sprite world ask for.

    Linear heads read it off the mean of the states: subjects, motion, background, and whatever is told beyond them.
    With that in sight from the beginning, networks need fewer clips to learn what the words look like, and all stages
    can share one frozen encoder. One that learns on (`init`) keeps the states of ordinary captions, for the networks
    that know them.
    """

    KEEPING = 30.0
    """Weight of the squared difference from the states that an encoder had before it learned on."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        if config.data != "sprites":
            raise InputError(f"data: the task 'text' reads captions of the sprite world, got {config.data!r}")
        self.before: TextConditioner | None = None
        if config.init:
            self.text = TextConditioner.from_folder(config.init)
            if self.text.knows_words:
                self.text.add_words(_words(config))
            self.before = copy.deepcopy(self.text).requires_grad_(False).eval()
        else:
            self.text = TextConditioner.fresh(config)
        self.heads = nn.ModuleDict({name: nn.Linear(self.text.width, count) for name, count in _TOLD.items()})

    def logits(self, states: Tensor, captions: list[str]) -> dict[str, Tensor]:
        """Scores (B, classes) of each thing that captions tell, from their states (B, L, D)."""
        mask = self.text.tokenize(captions).attention_mask.to(states.device)[..., None]
        mean = (states * mask).sum(1) / mask.sum(1)
        return {name: head(mean) for name, head in self.heads.items()}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        captions: list[str] = batch["caption"]
        states = self.text(captions)
        read = [read_caption(caption) for caption in captions]
        classes = [_classes(each) for each in read]
        labels = {name: torch.tensor([c[name] for c in classes]).to(states.device) for name in _TOLD}
        scores = self.logits(states, captions)
        losses = [F.cross_entropy(scores[name], labels[name], reduction="sum") for name in _TOLD]
        loss = torch.stack(losses).sum() / len(captions)
        known = torch.stack([labels[name] < 0 for name in _TOLD])
        right = torch.stack([scores[name].argmax(1) == labels[name] for name in _TOLD])
        values = {"loss": loss, "accuracy": (right | known).all(0).float().mean()}
        if self.before is not None:
            ordinary = torch.tensor([each.ordinary for each in read]).to(states.device)
            with torch.no_grad():
                wanted = self.before(captions)
            moved = (states - wanted).square().mean((1, 2))
            values["moved"] = (moved * ordinary).sum() / ordinary.sum().clamp(min=1)
            values["loss"] = loss + self.KEEPING * values["moved"]
        return values

    def export(self, folder: Path) -> None:
        self.text.save(folder)

    def preview(self, batch: Batch) -> list[Sample]:
        return []


class DenoisingTask(StageTask):
    """A task with text, a noise schedule and a denoising network."""

    unet: nn.Module

    def __init__(self, config: TrainingConfig, schedule: str) -> None:
        super().__init__(config)
        self._inherited: set[str] = set()
        self._replay: Callable[..., Tensor] | None = None
        text_folder = config.text or config.init
        if text_folder is None:
            self.text = TextConditioner.fresh(config)
        else:
            self.text = TextConditioner.from_folder(text_folder)
            if self.text.knows_words:
                self.text.add_words(_words(config))
        if not self._trains_text():
            self.text.requires_grad_(False)
        if config.init is not None and (Path(config.init) / "scheduler").is_dir():
            self.sampler = read_scheduler_config(Path(config.init) / "scheduler")
            if config.add_condition:  # the network's last layer begins anew
                self.sampler = {**self.sampler, "prediction_type": config.prediction_type}
        else:
            schedule_config = networks.SCHEDULERS[schedule]
            self.sampler = {**schedule_config, **networks.SAMPLER, "prediction_type": config.prediction_type}
        noise_schedule = build_scheduler(self.sampler, "ddpm")
        self.prediction = noise_schedule.config.prediction_type
        self.register_buffer("alphas_cumprod", noise_schedule.alphas_cumprod, persistent=False)

    def train(self, mode: bool = True) -> Self:
        """As for every module, but frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in self.children():
            if not any(p.requires_grad for p in part.parameters()):
                part.eval()
        return self

    def new_parameters(self) -> set[str]:
        return super().new_parameters() - self._inherited

    def check_network(self, in_channels: int, *, noise_level: bool = False) -> None:
        """Makes sure that the network is one of this task, for this text.

        Raises:
            InputError: `init` is of another stage, or `text` of another width than it was trained with.
        """
        found: Any = self.unet.config
        width = found.get("encoder_hid_dim") or found.get("cross_attention_dim")
        if found.in_channels != in_channels or (found.get("class_embed_type") is not None) != noise_level:
            raise InputError(
                f"init: {self.config.init} holds a network of another stage (in_channels {found.in_channels}, "
                f"{self.config.task} needs {in_channels}); name an export of the stage before, or of this one"
            )
        if width != self.text.width:
            raise InputError(
                f"text: its states have {self.text.width} channels, the network of {self.config.init} reads {width}; "
                "name the text encoder that it was trained with"
            )

    def _trains_text(self) -> bool:
        return self.config.text is None and self.config.task in ("keyframe_images", "keyframes")

    def encode_captions(self, captions: list[str]) -> Tensor:
        """Text states (B, L, D), some of them of the empty caption."""
        drop = torch.rand(len(captions)) < self.config.prompt_dropout
        kept = ["" if gone else caption for caption, gone in zip(captions, drop.tolist(), strict=True)]
        if self._trains_text():
            return self.text(kept)  # type: ignore[no-any-return]
        with torch.no_grad():
            return self.text(kept)  # type: ignore[no-any-return]

    def denoising_loss(
        self,
        x0: Tensor,
        captions: list[str],
        condition: Tensor | None = None,
        noise_level: Tensor | None = None,
        noised: Tensor | None = None,
    ) -> Tensor:
        """The loss on clean samples (B, C, F, H, W) with a condition (B, C', F, H, W) beside the noisy ones.

        With `noised`, it is these samples that noise is added to, at all but low noise levels; x0 is still what the
        network is to find.
        """
        text = self.encode_captions(captions)
        noise = moved(torch.randn(x0.shape), x0.device)
        t = moved(draw_timesteps(len(x0), self.config.max_timestep, self.config.timestep_logit), x0.device)
        if self.config.motions_per_scene > 1:
            first = torch.arange(len(x0)) // self.config.motions_per_scene * self.config.motions_per_scene
            noise, t = noise[first], t[first]
        if noised is not None:
            noise = noise + noise_of(noised - x0, t, self.alphas_cumprod)  # type: ignore[arg-type]
        x_t = add_noise(x0, noise, t, self.alphas_cumprod)  # type: ignore[arg-type]
        inputs = x_t if condition is None else torch.cat([x_t, condition], dim=1)
        return prediction_loss(
            self.predict(inputs, t, text, noise_level),
            x0,
            noise,
            t,
            self.alphas_cumprod,  # type: ignore[arg-type]
            prediction=self.prediction,
            min_snr_gamma=self.config.min_snr_gamma,
            absolute=self.config.loss == "absolute",
        )

    def predict(self, inputs: Tensor, t: Tensor, text: Tensor, noise_level: Tensor | None) -> Tensor:
        """What the network predicts for noisy samples (B, C, F, H, W)."""
        if self.config.cuda_graphs and self.training:
            given = (inputs, t, text) if noise_level is None else (inputs, t, text, noise_level)
            if self._replay is None:
                self._replay = recorded(self.unet, *given)
            return self._replay(*given)
        labels = {} if noise_level is None else {"class_labels": noise_level}
        out: Tensor = self.unet(inputs, t, encoder_hidden_states=text, return_dict=False, **labels)[0]
        return out

    def to_corrupt(self, count: int) -> Tensor:
        """Draws which clips of a batch are corrupted: their indices."""
        return (torch.rand(count) < self.config.corruption).nonzero()[:, 0]

    def spoiled(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, F, H, W) at low resolution, some clips of them as an earlier stage leaves them."""
        chosen = self.to_corrupt(len(frames)).to(frames.device)
        if not len(chosen):
            return frames
        return frames.index_copy(0, chosen, corrupted(frames[chosen], left_in(frames.shape[-2])))

    def export(self, folder: Path) -> None:
        self.unet.save_pretrained(folder / "unet")  # type: ignore[operator]
        (folder / "scheduler").mkdir(parents=True, exist_ok=True)
        write_json(folder / "scheduler" / "scheduler_config.json", self.sampler)
        # pixel stages share the keyframes' text
        if self.config.task not in ("interpolation", "super_resolution_images", "super_resolution"):
            self.text.save(folder)

    def prompts(self, captions: list[str]) -> PromptEmbeddings:
        """Text states for sampling."""
        with torch.no_grad():
            empty = self.text([""]).expand(len(captions), -1, -1)
            return PromptEmbeddings(prompt_embeds=self.text(captions), negative_prompt_embeds=empty)


class KeyframesTask(DenoisingTask):
    """Text to images, then text to keyframes: the same network, inflated."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config, "pixel")
        temporal = config.task == "keyframes"
        if config.init is None:
            self.unet = networks.fresh_pixel_unet(config.network, "keyframes", self.text.width, temporal=temporal)
        else:
            source = load_unet(Path(config.init) / "unet", dtype=torch.float32, device="cpu")
            self.unet = networks.adapt_pixel_unet(source, temporal=temporal)
            brought = set(source.state_dict())
            self._inherited = {f"unet.{name}" for name in brought} | {
                n for n, _ in self.named_parameters() if n.startswith("text.")
            }
        self.check_network(3)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.denoising_loss(batch["video"], batch["caption"])}

    def preview(self, batch: Batch) -> list[Sample]:
        captions = batch["caption"][:4]
        frames, height, width = batch["video"].shape[2:]
        settings = KeyframesSettings(
            num_inference_steps=15, guidance_scale=3.0, num_frames=frames, height=height, width=width
        )
        stage = KeyframesStage(self.unet, self.sampler)
        seeds = IndependentSeeds(list(range(len(captions))))
        made = stage(None, self.prompts(captions), seeds=seeds, settings=settings)
        return list(zip(captions, made, strict=True))


class InterpolationTask(DenoisingTask):
    """Two keyframes to the frames between them."""

    unet: UNet3DConditionModel

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config, "pixel")
        adds = config.add_condition
        if config.init is None:
            self.unet = networks.fresh_pixel_unet(
                config.network, "interpolation", self.text.width, temporal=True, add_condition=adds
            )
        else:
            source = load_unet(Path(config.init) / "unet", dtype=torch.float32, device="cpu")
            self.unet = networks.adapt_pixel_unet(source, temporal=True, in_channels=7, add_condition=adds)
            new = {*self.unet.temporal_parameters(), "conv_in.weight", "conv_in.bias"}
            self._inherited = {f"unet.{name}" for name, _ in self.unet.named_parameters() if name not in new}
        self.check_network(7)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        video = batch["video"]  # (B, 3, factor + 1, H, W)
        condition = interpolation.inputs(self.spoiled(video[:, :, [0, -1]]), video.shape[2] - 1)
        return {"loss": self.denoising_loss(video, batch["caption"], condition)}

    def preview(self, batch: Batch) -> list[Sample]:
        captions = batch["caption"][:4]
        video = batch["video"][: len(captions)]
        settings = InterpolationSettings(num_inference_steps=15, guidance_scale=1.0, factor=video.shape[2] - 1)
        stage = InterpolationStage(self.unet, self.sampler)
        seeds = IndependentSeeds(list(range(len(captions))))
        made = stage(video[:, :, [0, -1]], self.prompts(captions), seeds=seeds, settings=settings)
        return list(zip(captions, made, strict=True))


class SuperResolutionTask(DenoisingTask):
    """A low-resolution window, noised, and a clean first frame, to the high-resolution window; or single frames."""

    SINGLE_FRAMES = 0.2
    """Share of batches of one frame without a clean one beside it: so the network can begin a video."""

    CROP = (48, 64)
    """Height and width of training crops of the high-resolution window."""

    noising_alphas: Tensor
    """(T,) of the schedule on which the condition is noised."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config, "pixel")
        temporal, adds = config.task == "super_resolution", config.add_condition
        if config.init is None:
            self.unet = networks.fresh_pixel_unet(
                config.network, "super_resolution", self.text.width, temporal=temporal, add_condition=adds
            )
        else:
            source = load_unet(Path(config.init) / "unet", dtype=torch.float32, device="cpu")
            self.unet = networks.adapt_pixel_unet(source, temporal=temporal, add_condition=adds)
            self._inherited = {f"unet.{name}" for name in source.state_dict()}
        self.check_network(6, noise_level=True)
        self.register_buffer("noising_alphas", super_resolution.noising_alphas(), persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        video = batch["video"]
        low = upsample(self.spoiled(batch["low"]), *video.shape[-2:])
        video, low = random_crop(self.CROP, video, low)
        levels = torch.randint(self.config.noise_level[0], self.config.noise_level[1] + 1, (len(video),))
        levels = levels.to(video.device)
        if video.shape[2] == 1 or torch.rand(()) < self.SINGLE_FRAMES:
            # every frame of the window as a video of one frame
            frames = video.shape[2]
            video, low = (fold_frames(x)[:, :, None] for x in (video, low))
            levels = levels.repeat_interleave(frames)
            captions = [caption for caption in batch["caption"] for _ in range(frames)]
            clean = None
        else:
            captions, clean = batch["caption"], video[:, :, :1]
        condition = super_resolution.inputs(
            low,
            noise=moved(torch.randn(low.shape), low.device),
            noise_level=levels,
            alphas_cumprod=self.noising_alphas,
            clean=clean,
        )
        return {"loss": self.denoising_loss(video, captions, condition, levels)}

    def preview(self, batch: Batch) -> list[Sample]:
        captions = batch["caption"][:2]
        height, width = batch["video"].shape[-2:]
        low = batch["low"][: len(captions)]
        settings = SuperResolutionSettings(
            num_inference_steps=10,
            guidance_scale=1.0,
            height=height,
            width=width,
            noise_level=self.config.noise_level[0],
        )
        stage = SuperResolutionStage(self.unet, self.sampler)
        seeds = IndependentSeeds(list(range(len(captions))))
        made = stage(low, self.prompts(captions), seeds=seeds, settings=settings)
        return _pairs(captions, upsample(low, height, width), made)


class VAETask(StageTask):
    """An image autoencoder with a weak pull towards a normal latent distribution (arXiv:2112.10752)."""

    KL_WEIGHT = 1e-5
    EDGE_WEIGHT = 1.0

    CROP = 64
    """Height and width of training crops."""

    CROPS = 4
    """Crops of each image."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.vae: Any = (
            load_vae(Path(config.init) / "vae", dtype=torch.float32, device="cpu")
            if config.init
            else networks.fresh_vae(config.network)
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        images = fold_frames(batch["video"])
        images = torch.cat([random_crop((self.CROP, self.CROP), images)[0] for _ in range(self.CROPS)])
        posterior = self.vae.encode(images).latent_dist
        noise = moved(torch.randn(posterior.mean.shape), images.device)
        made = self.vae.decode(posterior.mean + posterior.std * noise).sample
        l1 = (made - images).abs().mean()
        edges = sum(((made - images).diff(dim=d)).abs().mean() for d in (2, 3))
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return {"loss": l1 + self.EDGE_WEIGHT * edges + self.KL_WEIGHT * kl, "l1": l1.detach(), "kl": kl.detach()}

    @torch.no_grad()
    def set_scaling_factor(self, images: Tensor) -> None:
        """Chooses the factor that gives latents unit variance on some images (N, 3, H, W)."""
        std = self.vae.encode(images).latent_dist.mean.std()
        self.vae.register_to_config(scaling_factor=round(1 / max(float(std), 1e-6), 5))

    def export(self, folder: Path) -> None:
        self.vae.save_pretrained(folder / "vae")

    def preview(self, batch: Batch) -> list[Sample]:
        images = batch["video"][:4, :, 0]
        self.set_scaling_factor(batch["video"][:, :, 0])
        with torch.no_grad():
            made = self.vae.decode(self.vae.encode(images).latent_dist.mean).sample
        return _pairs(batch["caption"][:4], images[:, :, None], made[:, :, None])


class TranslationTask(DenoisingTask):
    """Text to high-resolution latents at noise levels up to `max_timestep`: with 900, the expert of section 3.4."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config, "latent")
        assert config.vae is not None
        self.vae: Any = load_vae(Path(config.vae) / "vae", dtype=torch.float32, device="cpu").requires_grad_(False)
        self.unet = (
            load_latent_unet(Path(config.init) / "unet", dtype=torch.float32, device="cpu")
            if config.init and (Path(config.init) / "unet").is_dir()
            else networks.fresh_latent_unet(config.network, self.text.width, self.vae.config.latent_channels)
        )
        if config.init is not None:
            # layers over frames always learn at the full rate: after single images they are new
            over_frames = re.compile(r"temp_(convs|attentions)|transformer_in")
            self._inherited = {f"unet.{name}" for name in self.unet.state_dict() if not over_frames.search(name)}
        self.check_network(self.vae.config.latent_channels)

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """(B, 3, F, H, W) -> scaled latents (B, 4, F, H/8, W/8), drawn from the posterior."""
        images = fold_frames(video)
        latents = encode(self.vae, images, draw=lambda shape: moved(torch.randn(shape), images.device))
        return unfold_frames(latents, len(video))

    def new_parameters(self) -> set[str]:
        return {name for name in super().new_parameters() if name.startswith("unet.")}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        video = batch["video"]
        kind = left_by_super_resolution(video.shape[-2])
        if self.config.crop is not None:
            [video] = random_crop(self.config.crop, video)
        clean, noised = self.encode(video), None
        chosen = self.to_corrupt(len(video)).to(video.device)
        if len(chosen):
            noised = clean.index_copy(0, chosen, self.encode(corrupted(video[chosen], kind)))
        return {"loss": self.denoising_loss(clean, batch["caption"], noised=noised)}

    def export(self, folder: Path) -> None:
        super().export(folder)
        self.vae.save_pretrained(folder / "vae")

    def preview(self, batch: Batch) -> list[Sample]:
        from show1.config import TranslationSettings
        from show1.stages import TranslationStage

        video = batch["video"][:2, :, :8]
        height, width = video.shape[-2:]
        small = F.interpolate(video, size=(video.shape[2], height // 4, width // 4), mode="area")
        settings = TranslationSettings(
            num_inference_steps=15, guidance_scale=1.0, strength=0.6, height=height, width=width, max_timestep=999
        )
        stage = TranslationStage(self.unet, self.vae, self.sampler)
        seeds = IndependentSeeds(list(range(len(video))))
        captions = batch["caption"][: len(video)]
        made = stage(small, self.prompts(captions), seeds=seeds, settings=settings)
        return _pairs(captions, video, made)


def _pairs(captions: list[str], given: Tensor, made: Tensor) -> list[Sample]:
    """What a network saw beside what it made of it."""
    return [(caption, x) for caption, *pair in zip(captions, given, made, strict=True) for x in pair]


def random_crop(size: tuple[int, int], *tensors: Tensor) -> list[Tensor]:
    """Cuts the same random part of at most `size` out of tensors (..., H, W) of equal height and width."""
    full = tensors[0].shape[-2:]
    height, width = min(size[0], full[0]), min(size[1], full[1])
    top = int(torch.randint(0, full[0] - height + 1, ()))
    left = int(torch.randint(0, full[1] - width + 1, ()))
    return [x[..., top : top + height, left : left + width] for x in tensors]


TASK_CLASSES: dict[str, type[StageTask]] = {
    "text": TextTask,
    "keyframe_images": KeyframesTask,
    "keyframes": KeyframesTask,
    "interpolation": InterpolationTask,
    "super_resolution_images": SuperResolutionTask,
    "super_resolution": SuperResolutionTask,
    "vae": VAETask,
    "translation_images": TranslationTask,
    "translation": TranslationTask,
}
"""The class of each task's name."""
