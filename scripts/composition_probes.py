"""Cheap looks at composition: what text states say of groups, and what a network of single frames draws of them.

    python scripts/composition_probes.py text training-runs/text/export
    python scripts/composition_probes.py frames training-runs/keyframe_images/export --prompts 32 --sheets sheets/

"text" fits a linear classifier to the mean of the states of 6,000 training captions and reads 600 captions of scenes
with held-out pairs. "frames" samples one frame for each of the first prompts of each set of groups
(`show1 evaluate alignment`) and judges it; seconds instead of the hours that whole videos take.
"""

import argparse
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from show1.config import KeyframesSettings
from show1.diffusion import IndependentSeeds
from show1.sprites.alignment.group_judge import GroupJudge
from show1.sprites.alignment.prompts import GROUP_SETS, GroupPrompt, prompts_of
from show1.sprites.captions import CaptionFacts, caption, read_caption
from show1.sprites.groups import GroupWorld
from show1.sprites.two_motions import TwoMotionsWorld
from show1.sprites.world import Split
from show1.stages import load_stage
from show1.stages.stage import PromptEmbeddings
from show1.text.encoder import PromptEncoder

TOKENS = 24
FACTS = ("subject", "other", "arrangement", "motion", "then")
BATCH = 16


def read_texts(
    encoder: PromptEncoder, world: type[GroupWorld] | type[TwoMotionsWorld], split: Split, count: int
) -> tuple[Tensor, list[CaptionFacts]]:
    """Returns mean states (count, D) of captions, and what the captions say."""
    scenes = map(world(seed=5, split=split).scene, range(count))
    captions = [caption(scene, random.Random(index)) for index, scene in enumerate(scenes)]
    means = []
    for text in captions:
        words = len(encoder.tokenizer(text).input_ids)
        means.append(encoder.encode([text], TOKENS)[0, :words].mean(0))
    return torch.stack(means), [read_caption(text) for text in captions]


def probe_text(folder: Path) -> None:
    encoder = PromptEncoder(folder)
    for world in (GroupWorld, TwoMotionsWorld):
        states, facts = read_texts(encoder, world, "train", 6000)
        unseen, held_out = read_texts(encoder, world, "held_out", 600)
        mean, deviation = states.mean(0), states.std(0) + 1e-5
        for name in FACTS:
            known = [i for i, each in enumerate(facts) if getattr(each, name) is not None]
            asked = [i for i, each in enumerate(held_out) if getattr(each, name) is not None]
            if not known or not asked:
                continue
            labels = torch.tensor([getattr(facts[i], name) for i in known])
            wanted = torch.tensor([getattr(held_out[i], name) for i in asked])
            torch.manual_seed(0)
            head = torch.nn.Linear(states.shape[1], int(torch.cat([labels, wanted]).max()) + 1)
            optimizer = torch.optim.Adam(head.parameters(), 1e-2)
            inputs = (states[known] - mean) / deviation
            for _ in range(400):
                optimizer.zero_grad()
                F.cross_entropy(head(inputs), labels).backward()
                optimizer.step()
            right = head((unseen[asked] - mean) / deviation).argmax(1) == wanted
            print(f"{world.__name__}: {name} {100 * right.float().mean():.1f} % of {len(asked)}", flush=True)


@torch.inference_mode()
def probe_frames(folder: Path, count: int, steps: int, guidance: float, sheets: Path | None) -> None:
    stage, encoder, judge = load_stage("keyframes", folder), PromptEncoder(folder), GroupJudge()
    settings = KeyframesSettings(num_inference_steps=steps, guidance_scale=guidance, num_frames=1, height=20, width=32)
    for name in GROUP_SETS:
        prompts = [prompt for prompt in prompts_of(name) if isinstance(prompt, GroupPrompt)][:count]
        tally: Counter[str] = Counter()
        frames = []
        for first in range(0, len(prompts), BATCH):
            batch = prompts[first : first + BATCH]
            text = PromptEmbeddings(
                prompt_embeds=encoder.encode([prompt.prompt for prompt in batch], TOKENS),
                negative_prompt_embeds=encoder.encode([""] * len(batch), TOKENS),
            )
            seeds = IndependentSeeds([prompt.index for prompt in batch])
            videos = stage(None, text, seeds=seeds, settings=settings)
            for prompt, video in zip(batch, videos, strict=True):
                score, _ = judge.score(video)
                verdicts = score.verdicts(replace(prompt, motion=score.motion))  # a frame has no motion
                tally.update(key for key, holds in verdicts.items() if holds)
                frames.append(video[:, 0])
        shares = (f"{key} {100 * tally[key] / len(prompts):.0f} %" for key in ("subjects", "arrangement", "all three"))
        print(f"{name}: {', '.join(shares)} of {len(prompts)}", flush=True)
        if sheets is not None:
            save_frames(frames, sheets / f"{name}.png")


def save_frames(frames: list[Tensor], file: Path) -> None:
    """Saves frames (3, H, W) in rows of eight, four times as large."""
    rows = [torch.cat(frames[i : i + 8], dim=2) for i in range(0, len(frames) - len(frames) % 8, 8)]
    pixels = ((torch.cat(rows, dim=1).clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    image.resize((4 * image.width, 4 * image.height), Image.Resampling.NEAREST).save(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["text", "frames"])
    parser.add_argument("folder", type=Path, help="export with tokenizer and text_encoder, and unet for frames")
    parser.add_argument("--prompts", type=int, default=32, help="prompts of each set")
    parser.add_argument("--steps", type=int, default=24, help="sampling steps")
    parser.add_argument("--guidance", type=float, default=3.0, help="guidance scale")
    parser.add_argument("--sheets", type=Path, help="folder for the frames")
    options = parser.parse_args()
    if options.what == "text":
        probe_text(options.folder)
    else:
        probe_frames(options.folder, options.prompts, options.steps, options.guidance, options.sheets)


if __name__ == "__main__":
    main()
