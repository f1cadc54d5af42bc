import random
from dataclasses import replace

import pytest

from show1.sprites.caption_reader import parse_caption, read_caption
from show1.sprites.captions import CLIP_TEMPLATES, DIRECTIONS, PLACES, VERBS, caption, vocabulary
from show1.sprites.scenes import Scene, SpriteWorld
from show1.sprites.world import BACKGROUNDS, MOTIONS, SUBJECTS, combinations


def make_scene(subject: int, motion: int, background: int) -> Scene:
    return Scene(subject=subject, motion=motion, background=background, start=(0.5, 0.5), end=(0.5, 0.5), size=0.6)


def test_canonical_captions() -> None:
    panda = make_scene(SUBJECTS.index("panda"), MOTIONS.index("spins"), BACKGROUNDS.index("the snow"))
    owl = make_scene(SUBJECTS.index("owl"), MOTIONS.index("moves left"), BACKGROUNDS.index("a pink room"))
    assert caption(panda) == "a panda spins over the snow"
    assert caption(owl) == "an owl moves left over a pink room"
    assert caption(owl, kind="image") == "an owl over a pink room"


def test_canonical_captions_read_back_for_every_combination() -> None:
    for triple in combinations("all"):
        scene = make_scene(*triple)
        assert parse_caption(caption(scene)) == triple
        assert parse_caption(caption(scene, kind="image").upper()) == (triple[0], None, triple[2])


def test_every_wording_reads_back() -> None:
    for motion, verbs in VERBS.items():
        for place, wordings in PLACES.items():
            expected = (SUBJECTS.index("soccer ball"), MOTIONS.index(motion), BACKGROUNDS.index(place))
            for verb, doing in verbs:
                for wording in wordings:
                    for template in CLIP_TEMPLATES:
                        text = template.format(
                            a_subject="a soccer ball", subject="soccer ball", verb=verb, doing=doing, place=wording
                        )
                        assert parse_caption(text) == expected, text


def test_training_captions_are_half_canonical_and_read_back() -> None:
    world, rng, canonical = SpriteWorld(), random.Random(0), 0
    words = set(vocabulary())
    for index in range(1000):
        scene = world.scene(index)
        text = caption(scene, rng)
        canonical += text == caption(scene)
        assert parse_caption(text) == (scene.subject, scene.motion, scene.background), text
        assert set(text.replace(",", "").split()) <= words
        image_text = caption(scene, rng, kind="image")
        assert parse_caption(image_text) == (scene.subject, None, scene.background), image_text
        assert set(image_text.replace(",", "").split()) <= words
    assert 460 < canonical < 580  # half by the mix, a few by a paraphrase that is the canonical one


def test_angles_and_directions_are_told_half_of_the_time() -> None:
    rng = random.Random(0)
    scene = replace(make_scene(1, MOTIONS.index("moves left"), 4), tilt=0.26)
    texts = [caption(scene, rng) for _ in range(200)]
    assert all("tilted cat" in text or "clockwise toppled cat" in text for text in texts)
    assert (
        70 < sum("toppled" in text for text in texts) < 130 and caption(scene) == "a tilted cat moves left over the sea"
    )
    for tilt, words in ((0.08, "a clockwise leaning"), (0.5, "an upended"), (0.6, "a counterclockwise tumbled")):
        tilted = replace(scene, tilt=tilt)
        assert any(f"{words} cat" in caption(tilted, rng) for _ in range(40))
    for turns, direction in ((1.0, " clockwise"), (-1.0, " counterclockwise")):
        spinning = replace(make_scene(0, MOTIONS.index("spins"), 6), turns=turns)
        texts = [caption(spinning, rng) for _ in range(200)]
        assert 70 < sum(direction in text for text in texts) < 130
        assert {parse_caption(text) for text in texts} == {(0, MOTIONS.index("spins"), 6)}


def test_two_directions_are_none() -> None:
    assert read_caption("an owl spins clockwise over the sea").direction == DIRECTIONS.index("clockwise")
    assert read_caption("an owl spins counterclockwise over the sea").direction == DIRECTIONS.index("counterclockwise")
    assert read_caption("a clockwise toppled owl spins counterclockwise over the sea").direction is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a zebra spins over the snow",
        "a panda spins",
        "a cat and a dog over the sea",
        "a cat grows and spins over the sea",
    ],
)
def test_texts_outside_the_world_are_not_guessed(text: str) -> None:
    assert parse_caption(text) is None


def test_vocabulary_is_words_alone() -> None:
    words = vocabulary()
    assert words == sorted(set(words))
    assert all(word.isalpha() and word.islower() for word in words)
    assert {"a", "an", "panda", "soccer", "ball", "over", "spinning"} <= set(words)
