"""Writes the fixed prompts of `show1 evaluate alignment`.

    python scripts/make_alignment_prompts.py

The file is part of the protocol: with it changes the hash that every report names, and figures stop being comparable.
Subjects, motions and backgrounds come up equally often in each set.
"""

import json
import random
from pathlib import Path

from show1.data.captions import CLIP_TEMPLATES, PLACES, VERBS, with_article
from show1.data.world import BACKGROUNDS, MOTIONS, SUBJECTS, combinations

FILE = Path("src/show1/evaluation/assets/alignment_prompts.jsonl")
COUNTS = {"held_out": 128, "seen": 128, "paraphrase": 64}


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


def main() -> None:
    rng = random.Random("alignment 1")
    lines = []
    for kind, count in COUNTS.items():
        allowed = combinations({"seen": "train", "held_out": "held_out", "paraphrase": "held_out"}[kind])
        for subject, motion, background in balanced(allowed, count, rng):
            canonical = f"{with_article(SUBJECTS[subject])} {MOTIONS[motion]} over {BACKGROUNDS[background]}"
            prompt = wording(subject, motion, background, rng) if kind == "paraphrase" else canonical
            lines.append(
                {"set": kind, "prompt": prompt, "subject": subject, "motion": motion, "background": background}
            )
    FILE.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(f"{len(lines)} prompts in {FILE}")


if __name__ == "__main__":
    main()
