"""Options of the sprite world as training data: `sprites:spins=0.3`."""

import pytest

from show1.errors import InputError
from show1.sprites.clips import SpriteClips
from show1.sprites.options import SpriteOptions


def test_a_spec_names_the_options_that_differ() -> None:
    assert SpriteOptions.from_spec("sprites") == SpriteOptions() and SpriteOptions().spec == "sprites"
    spec = "sprites:spins=0.35,tilts=0.2,groups=0.12,subject_share=bicycle:0.35,subject_share=fish:0.06"
    options = SpriteOptions.from_spec(spec)
    assert (options.spins, options.subject_shares) == (0.35, (("bicycle", 0.35), ("fish", 0.06)))
    assert options.spec == spec == SpriteClips.from_spec(spec).spec
    assert (
        SpriteClips.from_spec("sprites:subject_share=fish:.50,tilts=1").spec
        == "sprites:tilts=1.0,subject_share=fish:0.5"
    )
    clips = SpriteClips.from_spec("sprites:motions_per_scene=4", seed=3)
    assert (clips.clips_per_scene, clips.world.seed, clips.num_clips) == (4, 3, None)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sprites:speed=1", "unknown option 'speed'; the options are spins, tilts, groups, .* docs/train.md"),
        ("sprites:spins=fast", "spins must be a number, got 'fast'"),
        ("sprites:spins=1.5", "spins must be from 0 to 1, got 1.5"),
        ("sprites:tilts=-1", "tilts must be from 0 to 1"),
        ("sprites:groups=2", "groups must be from 0 to 1"),
        ("sprites:motions_per_scene=0", "motions_per_scene must be 1 or more"),
        ("sprites:motions_per_scene=2,spins=0.5", "spins does not go with motions_per_scene"),
        ("sprites:subject_share=bicycle", "subject_share: expected NAME:SHARE, such as bicycle:0.25, got 'bicycle'"),
        ("sprites:subject_share=bike:0.2", "there is no subject 'bike'; they are "),
        ("sprites:subject_share=bicycle:-1", "the share of 'bicycle' must be from 0 to 1, got -1.0"),
        (
            "sprites:subject_share=bicycle:0.7,subject_share=fish:0.7",
            "the shares of subjects must be at most 1 together, got 1.4",
        ),
    ],
)
def test_faulty_specs(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SpriteOptions.from_spec(spec)
