"""How a video shows itself."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest

from show1.media import read_video
from show1.video import Video


def test_a_representation_is_one_short_line() -> None:
    frames = np.zeros((29, 40, 64, 3), np.uint8)
    assert repr(Video(frames=frames, fps=8)) == "<Video of 29 frames, 40x64 (height x width), 8 frames/s>"
    video = Video(frames=frames, fps=29.97, metadata={"prompt": "a\npanda " * 100, "seed": 3})
    assert "\n" not in repr(video) and "29.97 frames/s, 'a panda a panda" in repr(video) and len(repr(video)) < 160
    assert repr(Video(frames=frames[:1], fps=8)) == "<Video of 1 frame, 40x64 (height x width), 8 frames/s>"


@pytest.mark.parametrize("size", [(40, 64), (33, 49), (1, 1)])
def test_notebooks_get_a_player(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = np.full((5, *size, 3), 80, np.uint8)
    video = Video(frames=frames, fps=8, metadata={"prompt": "<script>alert('x')</script> & more", "seed": 1})
    text = video._repr_html_()
    assert "<script>" not in text and "&lt;script&gt;" in text and "(seed 1)" in text
    found = re.search(r'<video [^>]*src="data:video/mp4;base64,([^"]+)"', text)
    assert found is not None
    (tmp_path / "a.mp4").write_bytes(base64.b64decode(found[1]))
    shown, fps, _ = read_video(tmp_path / "a.mp4")
    assert shown.shape == (5, size[0] + size[0] % 2, size[1] + size[1] % 2, 3) and fps == 8
    np.testing.assert_allclose(shown.astype(int), 80, atol=3)


def test_a_video_without_frames_says_so() -> None:
    video = Video(frames=np.zeros((0, 8, 8, 3), np.uint8), fps=8)
    assert "without frames" in video._repr_html_() and repr(video).startswith("<Video of 0 frames")
