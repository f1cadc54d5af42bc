"""What differs from one family of experts to another: the base class of all families."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import diffusers
import torch
from torch import Tensor

from show1.diffusion import started_at

Texts = dict[str, Tensor]
"""Text states of one text, (1, ...) and floating-point each, by the name of the pipeline's argument."""


class ExpertFamily:
    """How a pipeline of diffusers is used as an expert.

    What most families have in common is done here; a family overrides what is different. Latents are what the pipeline
    takes as `latents`, before noise is added: (B, C, f, h, w) for most.
    """

    pipeline: ClassVar[str | type]
    """The text-to-video pipeline: its name in diffusers, or a class."""
    float32: ClassVar[tuple[str, ...]] = ()
    """Components that stay in float32 in any precision."""
    text_length: ClassVar[int] = 226
    """Tokens to which a text is padded or cut."""
    frame_axis: ClassVar[int | None] = 2
    """The axis of the latents that counts frames; None: there is none, so that videos are denoised whole."""
    text_states: ClassVar[tuple[str, ...]] = ("prompt_embeds",)
    """Names of what `text_of` gives."""
    fixed_levels: ClassVar[tuple[float, ...]] = ()
    """The noise levels of all steps that the network was distilled to, falling; none: it takes any."""

    @property
    def pipeline_class(self) -> Any:
        """The class of the pipeline."""
        return getattr(diffusers, self.pipeline) if isinstance(self.pipeline, str) else self.pipeline

    def build(self, components: dict[str, Any], options: dict[str, Any]) -> Any:
        """Makes the pipeline.

        Args:
            components: By name; None for those that are not loaded.
            options: Values of `model_index.json` that are no components.
        """
        return self.pipeline_class(**components, **options)

    def text_of(self, pipe: Any, prompt: str) -> Texts:
        """Encodes a text with a pipeline that holds only text encoders and tokenizers; see `Texts` for the shapes."""
        states, _ = pipe.encode_prompt(
            prompt=prompt,
            do_classifier_free_guidance=False,
            max_sequence_length=self.text_length,
            device=pipe._execution_device,
        )
        return {"prompt_embeds": states}

    def frame_multiple(self, pipe: Any) -> int:
        """M such that the model takes M * k + 1 frames."""
        return int(pipe.vae_scale_factor_temporal)

    def size_multiple(self, pipe: Any) -> int:
        """What heights and widths have to be multiples of."""
        return int(pipe.vae_scale_factor_spatial) * 2  # most transformers see patches of 2x2 latent pixels

    def encode(self, pipe: Any, video: Tensor) -> Tensor:
        """Encodes a video (B, 3, F, H, W) in [-1, 1] to clean latents: the mode of the autoencoder's posterior."""
        vae = pipe.vae
        parts = [vae.encode(one[None].to(vae.dtype)).latent_dist.mode().float() for one in video]
        return self.normalized(pipe, torch.cat(parts))

    def decode(self, pipe: Any, latents: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Decodes what `denoise` gives to a video (B, 3, F, H, W) in about [-1, 1].

        Args:
            pipe: The pipeline.
            latents: (B, ...), clean.
            generators: One per sample, for decoders that draw noise.
        """
        vae = pipe.vae
        raw = self.denormalized(pipe, latents.float()).to(vae.dtype)
        return torch.cat([vae.decode(one[None], return_dict=False)[0].float() for one in raw])

    def tile_size(self, pipe: Any) -> tuple[int, int] | None:
        """Height and width of the tiles in which the autoencoder can code frames; None: it cannot."""
        vae: Any = getattr(pipe, "vae", None)
        known = hasattr(vae, "enable_tiling") and hasattr(vae, "tile_sample_min_height")
        return (int(vae.tile_sample_min_height), int(vae.tile_sample_min_width)) if known else None

    def normalized(self, pipe: Any, latents: Tensor) -> Tensor:
        """Brings the autoencoder's latents (B, C, f, h, w) to what the network denoises."""
        return latents * float(pipe.vae.config.scaling_factor)

    def denormalized(self, pipe: Any, latents: Tensor) -> Tensor:
        """Undoes `normalized`: latents (B, C, f, h, w) for the autoencoder."""
        return latents / float(pipe.vae.config.scaling_factor)

    def schedule(self, scheduler: Any, level: float, generators: Sequence[torch.Generator]) -> Any:
        """A schedule that begins at a noise level.

        Args:
            scheduler: That of the model.
            level: The level, in (0, 1].
            generators: One per sample, for schedulers that draw noise.
        """
        return started_at(scheduler, level)

    def denoise(
        self,
        pipe: Any,
        latents: Tensor,
        text: Texts,
        *,
        size: tuple[int, int, int],
        steps: int,
        guidance: float,
        generators: Sequence[torch.Generator],
        on_step: Callable[[Tensor], None],
    ) -> Tensor:
        """Runs the pipeline, whose scheduler begins at the level of the latents.

        Args:
            pipe: The pipeline.
            latents: Noised, (B, ...), as `encode` gives them.
            text: Text states of B prompts, and `negative_...` of the unconditional half.
            size: Frames, height and width of the video.
            steps: Steps of the whole schedule.
            guidance: Scale of classifier-free guidance.
            generators: One per sample, for schedulers that draw noise.
            on_step: Called after each step with the latents; may raise.

        Returns:
            Clean latents, as `decode` takes them.
        """

        def call(_pipe: Any, _index: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            on_step(values["latents"])
            return {}

        frames, height, width = size
        out = pipe(
            latents=latents,
            num_frames=frames,
            height=height,
            width=width,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=list(generators),
            output_type="latent",
            return_dict=False,
            callback_on_step_end=call,
            **self.text_arguments(text, guidance),
            **self.arguments(pipe),
        )
        result: Tensor = out[0]
        return result

    def text_arguments(self, text: Texts, guidance: float) -> dict[str, Any]:
        """The text states as the pipeline's arguments; without guidance, only those of the prompts, (B, ...) each."""
        return {name: states for name, states in text.items() if guidance > 1 or not name.startswith("negative_")}

    def arguments(self, pipe: Any) -> dict[str, Any]:
        """Further arguments of the pipeline's call."""
        return {}
