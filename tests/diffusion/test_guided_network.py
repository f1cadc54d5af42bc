import pytest
import torch

from show1.diffusion import Guidance, GuidedNetwork


class Recorder:
    """Predicts the mean of the text, and of each sample's input channels."""

    def __init__(self, channels=6):
        self.channels = channels
        self.rows: list[int] = []
        self.encoded = 0

    def encode_text(self, prompt_embeds):
        self.encoded += 1
        return prompt_embeds.mean(dim=(1, 2))

    def __call__(self, sample, timestep, text):
        assert len(text) == len(sample)
        self.rows.append(len(sample))
        level = text.view(-1, 1, 1, 1, 1) + sample.mean(dim=1, keepdim=True)
        return level.expand(-1, self.channels, -1, -1, -1) * torch.arange(1, self.channels + 1).view(1, -1, 1, 1, 1)


def denoiser(network, batch=3, **options):
    prompts = torch.arange(batch).view(batch, 1, 1).float().expand(batch, 4, 5)
    options = {"guidance": Guidance(scale=2.0), **options}
    return GuidedNetwork(network, prompts + 10, prompts - 10, **options)


LATENTS = torch.randn(3, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
T = torch.tensor(500)


def test_both_halves_go_through_in_one_call_and_the_text_is_encoded_once():
    network = Recorder()
    denoise = denoiser(network)
    out = denoise(LATENTS, T)
    denoise(LATENTS, torch.tensor(400))
    assert network.rows == [6, 6] and network.encoded == 1
    # uncond is 20 below cond, so guidance 2 adds 20 to it
    level = LATENTS.mean(dim=1) + torch.tensor([10.0, 11, 12]).view(3, 1, 1, 1) + 20
    torch.testing.assert_close(out[:, 0], level)


def test_outside_the_interval_the_batch_is_halved():
    network = Recorder()
    denoise = denoiser(network, guidance=Guidance(scale=2.0, interval=(0.0, 0.4)))
    out = denoise(LATENTS, T)
    denoise(LATENTS, torch.tensor(300))
    assert network.rows == [3, 6]
    torch.testing.assert_close(out[:, 0], LATENTS.mean(dim=1) + torch.tensor([10.0, 11, 12]).view(3, 1, 1, 1))


def test_variance_channels_are_kept_only_where_they_are_learned():
    assert denoiser(Recorder())(LATENTS, T).shape[1] == 3
    kept = denoiser(Recorder(), learned_variance=True)(LATENTS, T)
    assert kept.shape[1] == 6
    level = LATENTS.mean(dim=1) + torch.tensor([10.0, 11, 12]).view(3, 1, 1, 1)
    torch.testing.assert_close(kept[:, 3], level * 4)


@pytest.mark.parametrize("max_batch", [1, 2, 3, 5])
def test_splitting_the_batch_changes_nothing(max_batch):
    condition = torch.randn(3, 4, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    options = {"condition": condition, "learned_variance": True}
    network = Recorder()
    split = denoiser(network, max_batch=max_batch, **options)(LATENTS, T)
    torch.testing.assert_close(split, denoiser(Recorder(), **options)(LATENTS, T))
    assert max(network.rows) <= 2 * max_batch and sum(network.rows) == 6


def test_samples_of_one_prompt_share_its_encoded_text():
    network = Recorder()
    denoise = denoiser(network, batch=1, prompt_index=[0, 0, 0], max_batch=1)
    denoise(LATENTS, T)
    assert network.rows == [2, 2, 2] and network.encoded == 1
