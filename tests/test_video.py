import pytest
import torch

from show1 import Video
from show1.errors import InputError
from show1.runtime.tracing import LiveTensors


def test_values_are_clipped_and_rounded():
    video = torch.tensor([-2.0, -1.0, 0.0, 0.499 / 127.5, 1.0, 3.0]).view(1, 1, 1, 6).expand(3, 2, 1, 6)
    frames = Video.from_tensor(video, fps=8.0).frames
    assert frames.shape == (2, 1, 6, 3)
    assert frames[1, 0, :, 2].tolist() == [0, 0, 128, 128, 255, 255]


def test_a_single_number_that_is_not_finite_is_found():
    video = torch.zeros(3, 4, 8, 8)
    video[1, 3, 2, 5] = float("inf")
    with pytest.raises(InputError, match="not finite"):
        Video.from_tensor(video, fps=8.0)


def test_a_video_is_made_of_a_tensor_frame_by_frame():
    video = torch.zeros(3, 50, 16, 16)
    with LiveTensors([video]) as counted:
        Video.from_tensor(video, fps=8.0)
    assert counted.peak < 0.1 * video.nbytes
