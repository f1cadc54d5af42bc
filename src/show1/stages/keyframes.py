"""Text to keyframes in pixel space."""

from torch import Tensor

from show1.config import KeyframesSettings
from show1.diffusion import randn
from show1.stages.base import PromptEmbeddings, Seeds, StepCallback
from show1.stages.denoising import DenoisingStage
from show1.stages.networks import PixelNetwork


class KeyframesStage(DenoisingStage):
    """Samples a few frames from a prompt (section 3.1 of arXiv:2309.15818)."""

    name = "keyframes"

    def __call__(
        self,
        video: Tensor | None,
        prompts: PromptEmbeddings,
        *,
        seeds: Seeds,
        settings: KeyframesSettings,
        on_step: StepCallback | None = None,
    ) -> Tensor:
        """Generates keyframes.

        Args:
            video: Not used: this stage comes first.
            prompts: B prompts.
            seeds: Where noise comes from.
            settings: Size and sampling.
            on_step: Called after every step; may raise to stop the run.

        Returns:
            (B, 3, F, H, W) float32 in about [-1, 1], on the CPU.
        """
        generators = seeds.generators(self.name, 0)
        shape = (len(prompts.prompt_embeds), 3, settings.num_frames, settings.height, settings.width)
        noise = randn(shape, generators)
        network = PixelNetwork(self.unet)
        return self.denoise(network, noise, prompts, settings=settings, generators=generators, on_step=on_step)
