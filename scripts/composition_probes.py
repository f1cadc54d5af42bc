"""Cheap looks at composition: what text states say of groups, and what a network of single frames draws of them.

    python scripts/composition_probes.py text training-runs/text/export
    python scripts/composition_probes.py losses training-runs/keyframes/export --frames 8
    python scripts/composition_probes.py frames training-runs/keyframe_images/export --prompts 32 --sheets sheets/

"text" fits linear classifiers to the states of 6,000 training captions and reads 600 captions of scenes with held-out
pairs: one for each fact, from the mean of the states, and one for what is said of a subject, from the state of its
name. "losses" compares the loss of scenes with held-out pairs under their captions with that under captions in which
the two subjects, or the two motions of one subject, are exchanged: it shows that a network begins to tell them apart
long before its samples do. "frames" samples one frame for each of the first prompts of each set of groups (`show1
evaluate alignment`) and judges it; seconds instead of the hours that whole videos take.
"""

import argparse
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from PIL import Image
from torch import Tensor

from show1.checkpoints.loading import load_unet
from show1.cli.failures import run_script
from show1.config import KeyframesSettings
from show1.data.clips import frame_times
from show1.diffusion import IndependentSeeds
from show1.diffusion.predictions import add_noise, target
from show1.sprites.alignment.group_judge import GroupJudge
from show1.sprites.alignment.prompts import GROUP_SETS, GroupPrompt, prompts_of
from show1.sprites.caption_reader import CaptionFacts, Mention, mentions, read_caption
from show1.sprites.captions import caption
from show1.sprites.groups import GroupWorld
from show1.sprites.scenes import Scene, render_tensor
from show1.sprites.two_motions import TwoMotionsWorld
from show1.sprites.world import Split, World
from show1.stages import load_stage
from show1.stages.stage import PromptEmbeddings
from show1.text.encoder import PromptEncoder

TOKENS = 24
TIMESTEPS = (500, 700, 850, 940)
FACTS = ("subject", "other", "arrangement", "motion", "then")
BATCH = 16


def written(world: type[GroupWorld] | type[TwoMotionsWorld], split: Split, count: int) -> list[str]:
    """Captions of scenes."""
    return [
        caption(scene, random.Random(i)) for i, scene in enumerate(map(world(seed=5, split=split).scene, range(count)))
    ]


def read_texts(encoder: PromptEncoder, texts: list[str]) -> tuple[Tensor, list[CaptionFacts]]:
    """Returns mean states (count, D) of captions, and what the captions say."""
    means = [encoder.encode([text], TOKENS)[0, : len(encoder.tokenizer(text).input_ids)].mean(0) for text in texts]
    return torch.stack(means), [read_caption(text) for text in texts]


def read_names(encoder: PromptEncoder, texts: list[str]) -> tuple[Tensor, list[Mention]]:
    """Returns the states (count, D) of the subjects' names, and what the captions say of each."""
    states, said = [], []
    for text in texts:
        tokens, encoded = encoder.tokenizer(text), encoder.encode([text], TOKENS)[0]
        for each in mentions(text):
            states.append(encoded[tokens.char_to_token(each.end - 1)])
            said.append(each)
    return torch.stack(states), said


def share_right(states: Tensor, values: list[int | None], unseen: Tensor, wanted: list[int | None]) -> str:
    """Says of how many unseen states a linear classifier reads the value; those whose value is None are left out."""
    known, asked = ([i for i, value in enumerate(each) if value is not None] for each in (values, wanted))
    if not known or not asked:
        return "not said"
    labels = torch.tensor([values[i] for i in known])
    right = torch.tensor([wanted[i] for i in asked])
    mean, deviation = states.mean(0), states.std(0) + 1e-5
    torch.manual_seed(0)
    head = torch.nn.Linear(states.shape[1], int(torch.cat([labels, right]).max()) + 1)
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    inputs = (states[known] - mean) / deviation
    for _ in range(400):
        optimizer.zero_grad()
        F.cross_entropy(head(inputs), labels).backward()
        optimizer.step()
    read = head((unseen[asked] - mean) / deviation).argmax(1)
    return f"{100 * (read == right).float().mean():.1f} % of {len(asked)}"


def probe_text(folder: Path) -> None:
    encoder = PromptEncoder(folder)
    for world in (GroupWorld, TwoMotionsWorld):
        texts, unseen = written(world, "train", 6000), written(world, "held_out", 600)
        readers = {"": (read_texts, FACTS), "own ": (read_names, ("place", "motion"))}
        for prefix, (read, names) in readers.items():
            states, facts = read(encoder, texts)
            others, held_out = read(encoder, unseen)
            for name in names:
                values, wanted = ([getattr(each, name) for each in known] for known in (facts, held_out))
                print(f"{world.__name__}: {prefix}{name} {share_right(states, values, others, wanted)}", flush=True)


@torch.inference_mode()
def probe_losses(folder: Path, count: int, frames: int) -> None:
    unet, encoder = load_unet(folder / "unet", dtype=torch.float32, device="cpu"), PromptEncoder(folder)
    schedule = DDPMScheduler.from_pretrained(folder / "scheduler")
    sets = {"relations": first_scenes(GroupWorld(seed=5, split="held_out", relations=1.0), count)}
    if frames > 1:
        moving = TwoMotionsWorld(seed=5, split="held_out")
        sets["two subjects"] = first_scenes(moving, count, lambda scene: bool(scene.others))
        sets["one after the other"] = first_scenes(moving, count, lambda scene: not scene.others)
    for name, scenes in sets.items():
        clips = torch.stack([render_tensor(scene, frame_times(frames), 20, 32) for scene in scenes])
        texts = [
            encoder.encode([caption(each) for each in list_], TOKENS) for list_ in (scenes, map(exchanged, scenes))
        ]
        for timestep in TIMESTEPS:
            t = torch.full((count,), timestep)
            noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(timestep))
            noisy = add_noise(clips, noise, t, schedule.alphas_cumprod)
            wanted = target(clips, noise, t, schedule.alphas_cumprod, "v_prediction")
            losses = []
            for text in texts:
                parts = zip(noisy.split(BATCH), text.split(BATCH), strict=True)
                found = torch.cat([unet(x, timestep, encoder_hidden_states=states).sample for x, states in parts])
                losses.append((found[:, :3] - wanted).square().mean((1, 2, 3, 4)))
            right, wrong = losses
            more, higher = 100 * (wrong / right).mean() - 100, 100 * (wrong > right).float().mean()
            print(
                f"{name}, timestep {timestep}: loss {right.mean():.4f}, exchanged {more:+.1f} %, "
                f"higher in {higher:.0f} %",
                flush=True,
            )


def first_scenes(world: World, count: int, wanted: Callable[[Scene], bool] = bool) -> list[Scene]:
    """The first scenes of a world that are wanted."""
    return list(itertools.islice(filter(wanted, map(world.scene, itertools.count())), count))


def exchanged(scene: Scene) -> Scene:
    """The scene with its two subjects, or its two motions one after the other, exchanged."""
    if scene.then is not None:
        return replace(scene, motion=scene.then, then=scene.motion)
    (other,) = scene.others
    return replace(scene, subject=other.subject, others=(replace(other, subject=scene.subject),))


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
    parser.add_argument("what", choices=["text", "losses", "frames"])
    parser.add_argument("folder", type=Path, help="export with tokenizer and text_encoder, and unet for frames")
    parser.add_argument("--prompts", type=int, default=32, help="prompts of each set, or scenes")
    parser.add_argument("--frames", type=int, default=1, help="frames of the clips whose losses are compared")
    parser.add_argument("--steps", type=int, default=24, help="sampling steps")
    parser.add_argument("--guidance", type=float, default=3.0, help="guidance scale")
    parser.add_argument("--sheets", type=Path, help="folder for the frames")
    options = parser.parse_args()
    if options.what == "text":
        probe_text(options.folder)
    elif options.what == "losses":
        probe_losses(options.folder, options.prompts, options.frames)
    else:
        probe_frames(options.folder, options.prompts, options.steps, options.guidance, options.sheets)


if __name__ == "__main__":
    run_script(main)
