import pickle

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from show1.data.clips import ClipDataset, ClipView, frame_times
from show1.errors import InputError
from show1.sprites.captions import caption
from show1.sprites.clips import SpriteClips
from show1.sprites.scenes import render_tensor
from show1.sprites.world import MOTIONS
from show1.training.presets import preset

VIEWS = preset("mini").views


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("keyframe_images", (3, 1, 20, 32)),
        ("keyframes", (3, 8, 20, 32)),
        ("interpolation", (3, 5, 20, 32)),
        ("super_resolution", (3, 8, 80, 128)),
        ("translation_images", (3, 1, 160, 256)),
        ("translation", (3, 29, 160, 256)),
    ],
)
def test_what_the_stages_see(name: str, shape: tuple[int, ...]) -> None:
    item = ClipDataset(SpriteClips(), VIEWS[name], length=4)[2]
    assert item["video"].shape == shape and item["video"].dtype == torch.float32
    assert ("low" in item) == (name == "super_resolution")
    assert isinstance(item["caption"], str)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (torch.zeros(3, 5, 20, 32), r"\(3, 5, 20, 32\) torch.float32 where \(3, 1, 20, 32\)"),
        (torch.zeros(3, 1, 20, 32, dtype=torch.uint8), "torch.uint8 where"),
        (torch.zeros(1, 3, 20, 32), "asked for"),
    ],
)
def test_clips_of_another_shape_are_refused(given: torch.Tensor, told: str) -> None:
    class Wrong(SpriteClips):
        def clip(self, index: int, **asked: object) -> torch.Tensor:  # type: ignore[override]
            return given

    with pytest.raises(InputError, match=f"Wrong.clip gave .*{told}"):
        ClipDataset(Wrong(), VIEWS["keyframe_images"], length=4)[2]


def test_windows_are_parts_of_the_whole_clip() -> None:
    source = SpriteClips()
    starts = set()
    for index in range(24):
        item = ClipDataset(source, VIEWS["interpolation"], length=24)[index]
        whole = render_tensor(source.world.scene(index), frame_times(29), 20, 32)
        torch.testing.assert_close(item["video"], whole[:, item["start"] : item["start"] + 5])
        starts.add(item["start"])
    assert starts == {0, 4, 8, 12, 16, 20, 24}


def test_super_resolution_pairs_show_the_same_moments() -> None:
    source = SpriteClips()
    index = next(i for i in range(100) if source.world.scene(i).motion == MOTIONS.index("moves left"))
    item = ClipDataset(source, VIEWS["super_resolution"], length=100)[index]
    assert item["low"].shape == (3, 8, 20, 32)
    averaged = F.avg_pool2d(item["video"], 4)
    assert float((averaged - item["low"]).abs().mean()) < 0.01
    assert float((averaged - item["low"].flip(1)).abs().mean()) > 0.03  # other moments differ


def test_captions_of_items() -> None:
    source = SpriteClips(seed=3, paraphrase=False)
    scene = source.world.scene(1)
    assert ClipDataset(source, VIEWS["keyframes"], length=2)[1]["caption"] == caption(scene)
    assert ClipDataset(source, VIEWS["keyframe_images"], length=2)[1]["caption"] == caption(scene, kind="image")
    paraphrased = SpriteClips()
    assert [paraphrased.caption(i) for i in range(20)] == [SpriteClips().caption(i) for i in range(20)]
    assert any(paraphrased.caption(i) != caption(paraphrased.world.scene(i)) for i in range(20))


def test_a_loader_collates_and_workers_can_take_it() -> None:
    dataset = ClipDataset(SpriteClips(), VIEWS["super_resolution"], length=4)
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    assert batch["video"].shape == (2, 3, 8, 80, 128) and batch["low"].shape == (2, 3, 8, 20, 32)
    assert len(batch["caption"]) == 2
    copy = pickle.loads(pickle.dumps(dataset))
    torch.testing.assert_close(copy[1]["video"], batch["video"][1], atol=0, rtol=0)
    with pytest.raises(IndexError, match="outside the dataset of 4"):
        dataset[4]


def test_views_that_cannot_be() -> None:
    with pytest.raises(InputError, match="window must be from 1 to num_frames"):
        ClipView(num_frames=8, height=20, width=32, window=9)
    with pytest.raises(InputError, match="window_stride"):
        ClipView(num_frames=8, height=20, width=32, window=2, window_stride=0)
