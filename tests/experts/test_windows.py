"""Long videos in windows, and the pace at which a model sees them."""

from dataclasses import replace

import pytest
import torch

from show1.config import TranslationSettings
from show1.diffusion import IndependentSeeds
from show1.errors import InputError
from show1.experts import EXPERTS, DiffusersExpert, Expert, check_expert_settings
from show1.experts.frames import slowed
from show1.experts.windows import windowed
from tests.experts.test_expert import FAMILIES, make, run
from tests.experts.tiny_experts import clip, embeddings, one_of

SETTINGS = TranslationSettings(num_inference_steps=2, guidance_scale=3.0, height=16, width=16, level=0.7)


@pytest.fixture(scope="module", params=[name for name in FAMILIES if FAMILIES[name][0].frame_axis is not None])
def expert(request: pytest.FixtureRequest) -> DiffusersExpert:
    return make(request.param)


@pytest.mark.parametrize(("frames", "window"), [(29, 29), (29, 33), (29, 100), (28, 28), (30, 30)])
def test_a_window_of_the_whole_clip_is_no_window(expert, frames, window):
    video = clip(frames=frames)
    whole = run(expert, video, [0], SETTINGS)
    assert torch.equal(run(expert, video, [0], replace(SETTINGS, window=window)), whole)


def test_a_long_video_in_windows(expert):
    video = clip(frames=57)
    whole = run(expert, video, [0], SETTINGS)
    split = run(expert, video, [0], replace(SETTINGS, window=17, overlap=8))
    assert split.shape == whole.shape and not torch.equal(split, whole)
    assert "forward" not in vars(expert.pipe.transformer)
    assert torch.equal(run(expert, video, [0], SETTINGS), whole)  # the network is as it was


def test_windows_of_a_network_that_looks_at_single_frames_leave_no_seam(expert, monkeypatch):
    def forward(hidden_states, **_):
        return (hidden_states.tanh() + 0.1,)

    monkeypatch.setattr(expert.pipe.transformer, "forward", forward)
    video = clip(frames=57)
    whole = run(expert, video, [0], SETTINGS)
    split = run(expert, video, [0], replace(SETTINGS, window=17, overlap=8))
    torch.testing.assert_close(split, whole, atol=1e-4, rtol=0)


def test_what_windows_agree_on_is_blended_to_itself():
    """Each window predicts its own frames: where they overlap, the blend is the prediction itself."""

    class Network:
        seen: list[int] = []

        def forward(self, hidden_states, timestep, **options):
            self.seen.append(hidden_states.shape[2])
            return (hidden_states * 2 + timestep.mean(),)

    network, x = Network(), torch.randn(2, 4, 11, 2, 2)
    with windowed(network, window=5, overlap=2, axis=2):
        out = network.forward(hidden_states=x, timestep=torch.tensor([1.0, 1.0]))[0]
    torch.testing.assert_close(out, 2 * x + 1)
    assert network.seen == [5, 5, 5]


def test_windows_of_a_network_with_a_position_per_token():
    positions = (torch.arange(22.0)[:, None], torch.arange(22.0)[:, None])
    seen = []

    class Network:
        def forward(self, hidden_states, image_rotary_emb, timestep):
            seen.append((image_rotary_emb[0].flatten().tolist(), timestep.shape))
            return (hidden_states,)

    network = Network()
    with windowed(network, window=5, overlap=2, axis=1):
        network.forward(
            hidden_states=torch.randn(1, 11, 4, 1, 2), image_rotary_emb=positions, timestep=torch.ones(1, 22)
        )
    assert seen == [(list(range(10)), (1, 10))] * 3  # as for a clip that begins there


def test_a_model_that_is_shown_more_frames_gives_back_those_that_were_asked_for(expert):
    video, shapes = clip(frames=29), []
    denoise = expert.family.denoise

    def noting(pipe, latents, text, *, size, **options):
        shapes.append(size)
        return denoise(pipe, latents, text, size=size, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expert.family, "denoise", noting)
        out = run(expert, video, [0], replace(SETTINGS, time_factor=2))
    assert shapes == [(57, 16, 16)] and out.shape == (1, 3, 29, 16, 16)


def test_frames_in_between_are_blends():
    video = clip(frames=3)
    slow = slowed(video, 2)
    assert slow.shape[2] == 5
    torch.testing.assert_close(slow[:, :, ::2], video)
    torch.testing.assert_close(slow[:, :, 1], (video[:, :, 0] + video[:, :, 1]) / 2)
    assert torch.equal(slowed(video[:, :, :1], 3), video[:, :, :1])


def test_short_windows_share_half_of_their_frames() -> None:
    assert replace(SETTINGS, window=49).own_window == (49, 16)
    assert replace(SETTINGS, window=9).own_window == (9, 4)
    assert replace(SETTINGS, window=None).own_window == (32, 4)


def test_an_overlap_as_long_as_the_window_is_refused():
    with pytest.raises(InputError, match=r"overlap must be less than window \(9\), got 9"):
        replace(SETTINGS, window=9, overlap=9)


def test_no_sample_sees_another(expert):
    video, text = clip(2, frames=33), embeddings(2, family=expert.family)
    settings = replace(SETTINGS, window=17, overlap=4, num_inference_steps=2)
    both = expert(video, text, seeds=IndependentSeeds([1, 2]), settings=settings)
    one = one_of(text, 1)
    alone = expert(video[1:], one, seeds=IndependentSeeds([2]), settings=settings)
    torch.testing.assert_close(both[1:], alone, atol=2e-5, rtol=0)


def test_what_sees_videos_whole_takes_no_windows():
    expert = Expert(row=EXPERTS["ltx-video"], classes={})
    check_expert_settings(expert, SETTINGS)
    with pytest.raises(InputError, match="'ltx-video' sees videos whole; leave out translation.window"):
        check_expert_settings(expert, replace(SETTINGS, window=33))
