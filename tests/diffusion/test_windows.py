import pytest
import torch

from show1.diffusion import blended, segments, sliding_windows
from show1.errors import InputError
from show1.stage_table import interpolated_length


@pytest.mark.parametrize(("window", "stride"), [(8, 7), (4, 3), (5, 2), (2, 1)])
@pytest.mark.parametrize("num_frames", range(1, 61))
def test_windows_cover_every_length(num_frames, window, stride):
    windows = sliding_windows(num_frames, window, stride)
    assert windows[0].start == 0 and windows[-1].stop == num_frames
    assert {len(w) for w in windows} == {min(window, num_frames)}
    for before, after in zip(windows, windows[1:], strict=False):
        assert before.start < after.start <= before.stop - 1  # each leads on from a frame that is there
        assert after.start - before.start <= stride
    assert len(windows) <= 2 or windows[-2].stop < num_frames  # none is superfluous


def test_published_windows_close_at_29_frames():
    assert [(w.start, w.stop) for w in sliding_windows(29, 8, 7)] == [(0, 8), (7, 15), (14, 22), (21, 29)]


def test_the_last_window_is_moved_back():
    assert [(w.start, w.stop) for w in sliding_windows(10, 8, 7)] == [(0, 8), (2, 10)]


@pytest.mark.parametrize("arguments", [(0, 8, 7), (9, 0, 1), (9, 8, 0), (9, 8, 8), (9, 1, 1)])
def test_windows_that_share_no_frame_are_refused(arguments):
    with pytest.raises(InputError):
        sliding_windows(*arguments)


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("num_keyframes", range(1, 61))
def test_segments_join_keyframes(num_keyframes, factor):
    parts = segments(num_keyframes, factor)
    assert [p.start for p in parts] == [k * factor for k in range(num_keyframes - 1)]
    assert all(len(p) == factor + 1 for p in parts)
    covered = {f for p in parts for f in range(p.start, p.stop)} or {0}
    assert covered == set(range(interpolated_length(num_keyframes, factor)))


@pytest.mark.parametrize(("axis", "shape"), [(2, (2, 3, 11, 2, 2)), (1, (2, 11, 3))])
def test_windows_that_agree_are_blended_to_what_they_agree_on(axis, shape):
    x = torch.randn(shape, dtype=torch.float64)
    out = blended(lambda seen, part: seen * 2 + 1, x, sliding_windows(11, 5, 3), axis=axis)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), 2 * x + 1, atol=1e-5, rtol=0)


def test_where_windows_differ_the_blend_leads_from_one_to_the_other():
    windows = sliding_windows(10, 6, 4)
    out = blended(lambda seen, part: torch.full_like(seen, part.start / 4), torch.zeros(1, 1, 10, 1, 1), windows)
    frames = out.flatten()
    assert frames[:4].eq(0).all() and frames[6:].eq(1).all()
    assert 0 < frames[4] < frames[5] < 1
