import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from show1.errors import InputError
from show1.sprites.caption_reader import parse_caption, read_caption
from show1.sprites.captions import caption, vocabulary
from show1.sprites.clips import SpriteClips
from show1.sprites.groups import ARRANGEMENTS, GroupWorld, arrangement, holds_held_out
from show1.sprites.options import SpriteOptions
from show1.sprites.scenes import Scene, SpriteWorld, render_tensor, sprite_layer
from show1.sprites.two_motions import TwoMotionsWorld
from show1.sprites.world import (
    RELATIONS,
    SUBJECTS,
    is_count_held_out,
    is_held_out,
    is_pair_held_out,
    is_size_held_out,
)

TIMES = np.array([0.0, 1.0])


def scenes(count: int = 600, **options: object) -> list[Scene]:
    world = GroupWorld(**options)  # type: ignore[arg-type]
    return [world.scene(index) for index in range(count)]


def kind(scene: Scene) -> str:
    if not scene.others:
        return "size"
    return "count" if scene.others[0].subject == scene.subject else "relation"


def test_kinds_come_equally_often_and_by_index() -> None:
    found = scenes()
    assert all(150 < number < 250 for number in Counter(map(kind, found)).values())
    assert {s.relation for s in found if kind(s) == "relation"} == set(RELATIONS)
    assert {s.count for s in found if kind(s) == "count"} == {2, 3}
    assert {s.sized for s in found if kind(s) == "size"} == {"small", "big"}
    assert found[5] == GroupWorld().scene(5) != GroupWorld(seed=1).scene(5)


def test_relations_can_have_another_share() -> None:
    many = Counter(map(kind, scenes(relations=0.8)))
    assert 440 < many["relation"] < 520 and min(many["count"], many["size"]) > 30
    assert Counter(map(kind, scenes(100, relations=1.0))) == {"relation": 100}
    shown = SpriteClips.from_spec("sprites:groups=1,relations=0").shown
    assert "relation" not in {kind(SpriteClips(shown=shown).scene(index)) for index in range(50)}
    with pytest.raises(InputError, match="relations must be from 0 to 1"):
        SpriteClips.from_spec("sprites:groups=1,relations=1.5")


def test_small_and_big_subjects_can_lie_at_some_angle() -> None:
    plain, tilted = scenes(), scenes(tilts=0.4)
    assert [replace(scene, tilt=0.0) for scene in tilted] == plain  # upright, they are the same scenes
    share = [bool(scene.tilt) for scene in tilted if kind(scene) == "size"]
    assert abs(sum(share) / len(share) - 0.4) < 0.1
    assert not any(scene.tilt for scene in tilted if kind(scene) != "size")
    clips = SpriteClips.from_spec("sprites:groups=1,relations=0,tilts=1")
    big = next(i for i in range(99) if clips.scene(i).sized == "big")
    assert "a big tilted " in caption(clips.scene(big))


def test_some_subjects_can_be_shown_more_often() -> None:
    fish, bicycle = SUBJECTS.index("fish"), SUBJECTS.index("bicycle")
    for world in (GroupWorld, TwoMotionsWorld):
        plain, more = (
            [world(seed=1, subject_shares=shares).scene(i) for i in range(300)] for shares in ((), (("fish", 0.4),))
        )
        few, many = (sum(fish in {s.subject, *(o.subject for o in s.others)} for s in each) for each in (plain, more))
        assert few < 40 and many > 90, (world, few, many)
        assert any(s.others and s.subject != fish == s.others[0].subject for s in more)  # at either place
    # a bicycle that stands still is held out: others are shown in its place
    still = [GroupWorld(relations=1.0, subject_shares=(("bicycle", 1.0),)).scene(i) for i in range(8)]
    assert not any(bicycle in (s.subject, s.others[0].subject) for s in still)


def test_training_never_shows_a_held_out_pair() -> None:
    for scene in scenes():
        for each in (scene, *scene.others):
            assert not is_held_out(each.subject, each.motion, scene.background)
        if kind(scene) == "relation":
            assert not is_pair_held_out(scene.subject, scene.others[0].subject)
        elif kind(scene) == "count":
            assert not is_count_held_out(scene.subject, scene.count)
        else:
            assert not is_size_held_out(scene.subject, int(scene.sized == "big"))
    assert all(map(holds_held_out, scenes(100, split="held_out")))
    assert 10 < sum(map(holds_held_out, scenes(100, split="all"))) < 90


def test_every_kind_has_held_out_pairs_of_its_own() -> None:
    """Of pairs that hold back nothing else, about one in eight."""
    pairs = [is_pair_held_out(a, b) for a in range(32) for b in range(32) if a != b]
    counts = [is_count_held_out(s, n) for s in range(32) for n in (2, 3)]
    sizes = [is_size_held_out(s, n) for s in range(32) for n in (0, 1)]
    for held_out in (pairs, counts, sizes):
        assert sum(held_out) / len(held_out) == pytest.approx(1 / 8, abs=0.01)


def test_groups_are_what_their_captions_say() -> None:
    for scene in scenes(200):
        text = caption(scene)
        names = [SUBJECTS[s.subject] for s in (scene, *scene.others)]
        if kind(scene) == "relation":
            assert f"{names[0]} {scene.relation} a" in text and names[1] in text
            (x, y), (other_x, other_y) = scene.start, scene.others[0].start
            holds = {"left of": x < other_x, "right of": x > other_x, "above": y < other_y, "below": y > other_y}
            assert holds[scene.relation]
        elif kind(scene) == "count":
            assert text.startswith(("two ", "three ")[scene.count - 2])
        else:
            assert f"{scene.sized} {names[0]} " in text


def test_subjects_of_a_group_are_seen_apart() -> None:
    for scene in scenes(120, split="all"):
        layers = [sprite_layer(each, 0.0, 40, 64)[3] for each in (scene, *scene.others)]
        assert min(float(layer.sum()) for layer in layers) > 20
        together = sum((layer > 0.5).float() for layer in layers)
        assert float((together > 1).sum()) <= 0.1 * float((together > 0).sum()), caption(scene)


def test_a_group_is_its_subjects_over_one_background() -> None:
    scene = next(s for s in scenes() if kind(s) == "relation")
    alone = render_tensor(replace(scene, others=()), TIMES, 40, 64)
    both = render_tensor(scene, TIMES, 40, 64)
    other = sprite_layer(scene.others[0], 0.0, 40, 64)
    changed = (both != alone).any(0).any(0)
    assert bool(changed.any()) and not bool((changed & (other[3] == 0)).any())
    inside = other[3] == 1
    torch.testing.assert_close(both[:, 0][:, inside], 2 * other[:3, inside] - 1)


def test_wordings_are_in_the_vocabulary_and_say_no_motion() -> None:
    words, plain = set(vocabulary(groups=True)), set(vocabulary())
    assert plain < words and {"three", "foxes", "above", "big"} <= words - plain
    rng, seen = random.Random(0), set()
    for scene in scenes(300):
        text = caption(scene, rng, kind="clip")
        seen.add(text)
        assert set(text.replace(",", "").split()) <= words
        assert kind(scene) == "size" or caption(scene, kind="image") == caption(scene)
    assert len(seen) > 250
    assert parse_caption("a cat left of a bus over the sea") is None  # two subjects: not one to be read alone


def test_ordinary_scenes_have_no_size_and_groups_are_mixed_in_by_share() -> None:
    assert not any(SpriteWorld(split="all").scene(index).sized for index in range(300))
    for share in (0.0, 0.3, 1.0):
        clips = SpriteClips(shown=SpriteOptions(groups=share))
        mixed = [clips.scene(index) for index in range(400)]
        beyond = [scene for scene in mixed if scene.others or scene.sized]
        assert len(beyond) / 400 == pytest.approx(share, abs=0.07)
        others = [(i, s) for i, s in enumerate(mixed) if not (s.others or s.sized)]
        assert all(scene == SpriteWorld().scene(index) for index, scene in others)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="split must be one of train, held_out, all"):
        GroupWorld(split="some")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must not be negative"):
        GroupWorld().scene(-1)


def test_a_scene_of_given_parts() -> None:
    world = GroupWorld(split="all")
    scene = world.compose((1, 18), "below", 2, index=4)
    assert caption(scene) == "a cat below a bus over the night sky" and scene == world.compose(
        (1, 18), "below", 2, index=4
    )
    assert world.compose((1,), "three", 0).count == 3
    assert world.compose((1,), "small", 0, motion=0).sized == "small"
    for wrong, parts in {
        "how must be": ((1,), "huge", 0),
        "two different ones": ((1,), "above", 0),
        "takes one": ((1, 2), "two", 0),
    }.items():
        with pytest.raises(InputError, match=wrong):
            world.compose(*parts)
    with pytest.raises(InputError, match="moves left"):
        world.compose((1,), "big", 0, motion=0)
    held_out = next(s for s in range(32) if is_size_held_out(s, 1))
    with pytest.raises(InputError, match="does not show"):
        GroupWorld(split="train").compose((held_out,), "big", 0)


def test_what_a_caption_tells() -> None:
    rng = random.Random(1)
    world = SpriteWorld(split="all", spins=0.3, tilts=0.5)
    for scene in [*scenes(300, split="all"), *map(world.scene, range(300))]:
        said = read_caption(caption(scene, rng))
        shown = list(dict.fromkeys(each.subject for each in (scene, *scene.others)))
        assert list(said.subjects) == shown and said.background == scene.background
        how = arrangement(scene)
        assert (None if said.arrangement is None else ARRANGEMENTS[said.arrangement]) == how
        assert said.motion == (None if scene.others else scene.motion)
        assert (said.turned is not None) == bool(scene.tilt)
        assert said.ordinary == (how is None and not scene.tilt and said.direction is None)
    assert read_caption("A counterclockwise toppled cat spins clockwise over the sea").turned == 1
    assert read_caption("two foxes above a bus").subjects == (SUBJECTS.index("fox"), SUBJECTS.index("bus"))
    nothing = read_caption("hello")
    assert not nothing.subjects and nothing.motion is None and nothing.background is None and not nothing.ordinary
