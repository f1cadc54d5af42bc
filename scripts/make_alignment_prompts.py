"""Writes the fixed prompts of `show1 evaluate alignment`.

    python scripts/make_alignment_prompts.py

The files are part of the protocol: with them change the hashes that reports name, and figures stop being comparable.
Subjects, motions and backgrounds come up equally often in each set of the first file; the second one, of groups, small
and big subjects, has every arrangement equally often, and so has the third one every pair of motions as far as it can.
"""

import json
import random
from itertools import permutations
from pathlib import Path

from show1.cli.failures import run_script
from show1.sprites.captions import CLIP_TEMPLATES, PLACES, VERBS, caption, with_article
from show1.sprites.groups import GroupWorld, arrangement, is_arrangement_held_out
from show1.sprites.two_motions import ORDERS, PAIR_MOTIONS, TwoMotionsWorld, is_composition_held_out, two_motions
from show1.sprites.world import BACKGROUNDS, COUNTS, MOTIONS, RELATIONS, SIZES, SUBJECTS, Split, combinations

FILE = Path("src/show1/sprites/assets/alignment_prompts.jsonl")
GROUP_FILE = FILE.with_name("group_prompts.jsonl")
PROMPTS = {"held_out": 128, "seen": 128, "paraphrase": 64}
MOTION_FILE = FILE.with_name("motion_prompts.jsonl")
GROUP_PROMPTS = 64
"""Number of prompts in each set."""


def balanced(allowed: list[tuple[int, int, int]], count: int, rng: random.Random) -> list[tuple[int, int, int]]:
    """Draws combinations, always one whose parts have come up least so far."""
    used = [[0] * len(names) for names in (SUBJECTS, MOTIONS, BACKGROUNDS)]
    chosen: list[tuple[int, int, int]] = []
    for _ in range(count):
        left = sorted(set(allowed) - set(chosen))
        wear = {t: sum(used[i][part] * len(used[i]) for i, part in enumerate(t)) for t in left}
        triple = rng.choice([t for t in left if wear[t] == min(wear.values())])
        for i, part in enumerate(triple):
            used[i][part] += 1
        chosen.append(triple)
    return chosen


def wording(subject: int, motion: int, background: int, rng: random.Random) -> str:
    """Another wording than the canonical one, in every part that has one."""
    verb, doing = rng.choice(VERBS[MOTIONS[motion]][1:])
    place = rng.choice(PLACES[BACKGROUNDS[background]][1:])
    name = SUBJECTS[subject]
    template = rng.choice(CLIP_TEMPLATES[1:])
    return template.format(a_subject=with_article(name), subject=name, verb=verb, doing=doing, place=place)


def group_lines(name: str, hows: tuple[str, ...], split: Split) -> list[dict[str, object]]:
    """Scenes of a split in their order, each arrangement as often as the others, no text twice. Held-out ones have
    subjects together, or so many or so large, as training never shows them."""
    world, lines = GroupWorld(seed=3000, split=split), dict[str, dict[str, object]]()
    left = dict.fromkeys(hows, GROUP_PROMPTS // len(hows))
    for scene in map(world.scene, range(20_000)):
        text, how = caption(scene), arrangement(scene)
        if how is None or not left.get(how) or text in lines or is_arrangement_held_out(scene) != (split == "held_out"):
            continue
        left[how] -= 1
        subjects = list(dict.fromkeys(shown.subject for shown in (scene, *scene.others)))
        parts = {"subjects": subjects, "how": how, "motion": scene.motion, "background": scene.background}
        lines[text] = {"set": name, "prompt": text, **parts}
    return list(lines.values())


def motion_lines(name: str, subjects: int, split: Split) -> list[dict[str, object]]:
    """Scenes of a split in their order, each two motions about as often as the others, no text twice."""
    hows = ORDERS if subjects == 1 else tuple(permutations(PAIR_MOTIONS, 2))
    world, lines = TwoMotionsWorld(seed=3000, split=split), dict[str, dict[str, object]]()
    left = dict.fromkeys(hows, -(-GROUP_PROMPTS // len(hows)))
    for scene in map(world.scene, range(20_000)):
        text, motions, shown = caption(scene), two_motions(scene), (scene, *scene.others)
        if len(shown) != subjects or motions is None or not left[motions] or text in lines:
            continue
        if is_composition_held_out(scene) != (split == "held_out") or len(lines) == GROUP_PROMPTS:
            continue
        left[motions] -= 1
        parts = {"subjects": [each.subject for each in shown], "motions": motions, "background": scene.background}
        lines[text] = {"set": name, "prompt": text, **parts}
    return list(lines.values())


def main() -> None:
    rng = random.Random("alignment 1")
    lines = []
    for kind, count in PROMPTS.items():
        allowed = combinations({"seen": "train", "held_out": "held_out", "paraphrase": "held_out"}[kind])
        for subject, motion, background in balanced(allowed, count, rng):
            canonical = f"{with_article(SUBJECTS[subject])} {MOTIONS[motion]} over {BACKGROUNDS[background]}"
            prompt = wording(subject, motion, background, rng) if kind == "paraphrase" else canonical
            lines.append(
                {"set": kind, "prompt": prompt, "subject": subject, "motion": motion, "background": background}
            )
    FILE.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(f"{len(lines)} prompts in {FILE}")
    kinds = {"relations": RELATIONS, "counts": tuple(COUNTS.values()), "sizes": SIZES}
    groups = [
        line
        for name, hows in kinds.items()
        for ending, split in (("", "train"), ("_held_out", "held_out"))
        for line in group_lines(name + ending, hows, split)
    ]
    GROUP_FILE.write_text("".join(json.dumps(line) + "\n" for line in groups))
    print(f"{len(groups)} prompts in {GROUP_FILE}")
    motions = [
        line
        for name, subjects in (("motion_binding", 2), ("motion_order", 1))
        for ending, split in (("", "train"), ("_held_out", "held_out"))
        for line in motion_lines(name + ending, subjects, split)
    ]
    MOTION_FILE.write_text("".join(json.dumps(line) + "\n" for line in motions))
    print(f"{len(motions)} prompts in {MOTION_FILE}")


if __name__ == "__main__":
    run_script(main)
