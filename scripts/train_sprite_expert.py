"""Trains a small expert of the CogVideoX family on the sprite world: a latent video model unlike mini's own expert.

    python scripts/train_sprite_expert.py --out sprite-expert

The folder `sprite-expert/model` is then one of diffusers, with the layout of `THUDM/CogVideoX-2b`:

    show1 generate "a panda spins over the snow" --expert sprite-expert/model --set translation.height=80 \\
        --set translation.width=128 --set translation.level=0.6

Its network is a `CogVideoXTransformer3DModel`, trained as a text-to-video model on clips of 80x128 pixels, at noise
levels up to 0.9, by the schedule of CogVideoX-2b. Its text encoder is a copy of mini's, which learns along: pipelines
of this family read prompts without a mask. Its autoencoder is an `AutoencoderKLCogVideoX` that computes frame by frame
what mini's does, without any training: a new one of Wan's class still missed pixels by 8 % of their range after 320
steps of 4 crops, which had taken 17 minutes of a busy core.
Run the same command again to resume: a run that was killed ends with the same weights, bit for bit.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from safetensors.torch import load_file, save_file
from torch import Tensor

from show1.checkpoints.loading import load_vae
from show1.checkpoints.locate import embedded_folder
from show1.cli.failures import run_script
from show1.diffusion import fold_frames, unfold_frames
from show1.diffusion.levels import level_timestep
from show1.sprites.clips import SpriteClips
from show1.training import LoopOptions
from show1.training.loop import fit
from show1.training.tasks.base import Batch, Sample, Task
from show1.training.tasks.text_conditioner import TextConditioner

FRAMES, HEIGHT, WIDTH = 29, 80, 128
CHANNELS, PATCH, HEAD = 16, 2, 32
TEXT_TOKENS = 226
"""Text states that pipelines of CogVideoX give the network."""
HIGHEST = 0.9
"""The highest noise level that is trained."""
WINDOW = 5
"""Frames of most samples; some are whole clips."""


def schedule() -> CogVideoXDDIMScheduler:
    """The noise schedule of CogVideoX-2b."""
    return CogVideoXDDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        snr_shift_scale=3.0,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


class CogVideoXTask(Task):
    """CogVideoX's transformer and a text encoder, as a text-to-video model by v-prediction."""

    PROMPT_DROPOUT = 0.1

    def __init__(self, text: TextConditioner) -> None:
        super().__init__()
        self.text_encoder, self.tokenizer = text.text_encoder, text.tokenizer
        self.transformer: Any = CogVideoXTransformer3DModel(
            num_attention_heads=4,
            attention_head_dim=HEAD,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            time_embed_dim=128,
            text_embed_dim=text.width,
            num_layers=6,
            sample_width=WIDTH // 8,
            sample_height=HEIGHT // 8,
            sample_frames=FRAMES,
            patch_size=PATCH,
            temporal_compression_ratio=1,
            max_text_seq_length=TEXT_TOKENS,
            use_rotary_positional_embeddings=True,
        )
        scheduler = schedule()
        self.highest = level_timestep(scheduler, HIGHEST)
        self.register_buffer("alphas_cumprod", scheduler.alphas_cumprod.float(), persistent=False)

    def states(self, captions: list[str]) -> Tensor:
        """Text states (B, 226, D) as pipelines of CogVideoX compute them: padding is not masked."""
        tokens = self.tokenizer(
            captions, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt"
        )
        out: Tensor = self.text_encoder(tokens.input_ids)[0]
        return out

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task.forward`: scalars."""
        clean = batch["latents"]  # (B, F, C, h, w)
        captions = [text if torch.rand(()) > self.PROMPT_DROPOUT else "" for text in batch["caption"]]
        timestep = torch.randint(0, self.highest + 1, (len(clean),))
        a = self.alphas_cumprod[timestep].view(-1, 1, 1, 1, 1)
        noise = torch.randn(clean.shape)
        noisy, wanted = a.sqrt() * clean + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * clean
        grid = (HEIGHT // 8 // PATCH, WIDTH // 8 // PATCH)
        places = get_3d_rotary_pos_embed(HEAD, ((0, 0), grid), grid, clean.shape[1], device="cpu")
        predicted = self.transformer(
            noisy, self.states(captions), timestep, image_rotary_emb=places, return_dict=False
        )[0]
        wrong = (predicted.float() - wanted).square().mean((1, 2, 3, 4))
        low = timestep < self.highest / 2
        return {"loss": wrong.mean(), "low levels": (wrong * low).sum().detach() / low.sum().clamp(min=1)}

    def export(self, folder: Path) -> None:
        """See `Task.export`."""
        self.transformer.save_pretrained(folder / "transformer")
        self.text_encoder.save_pretrained(folder / "text_encoder")
        self.tokenizer.save_pretrained(folder / "tokenizer")

    def preview(self, batch: Batch) -> list[Sample]:
        """See `Task.preview`: `show1 generate --expert` draws samples, (3, F, H, W)."""
        return []


@torch.no_grad()
def three_dimensional(vae: Any) -> AutoencoderKLCogVideoX:
    """An autoencoder of videos that computes of each frame what one of images does, but for its groups' statistics.

    Both have the same layers. A convolution over three frames has the weights of the image's for the last of them, and
    what modulates the decoder's normalizations by the latents is switched off.
    """
    known, config = {**vae.state_dict(), **_with_quantization(vae)}, vae.config
    new = AutoencoderKLCogVideoX(
        block_out_channels=config.block_out_channels,
        down_block_types=("CogVideoXDownBlock3D",) * len(config.block_out_channels),
        up_block_types=("CogVideoXUpBlock3D",) * len(config.block_out_channels),
        latent_channels=config.latent_channels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
        temporal_compression_ratio=1,
        scaling_factor=config.scaling_factor,
        sample_height=HEIGHT,
        sample_width=WIDTH,
    )
    state = new.state_dict()
    for name, tensor in state.items():
        if ".conv_y." in name or ".conv_b." in name:
            tensor.fill_(float(name.endswith("conv_y.conv.bias")))
            continue
        source = name.replace("norm_layer.", "").replace(".norm_out.", ".conv_norm_out.")
        weight = known.get(source, known.get(source.replace(".conv.", "."), None))
        assert weight is not None, name
        if tensor.ndim == 5:
            tensor.zero_()[:, :, -1] = weight
        else:
            tensor.copy_(weight)
    new.load_state_dict(state)
    return new.eval()


def _with_quantization(vae: Any) -> dict[str, Tensor]:
    """The last and the first convolution at the latents, joined with those of 1x1 that follow and precede them."""
    last, first = vae.encoder.conv_out, vae.decoder.conv_in
    after, before = vae.quant_conv, vae.post_quant_conv
    mixed = torch.einsum("om,mihw->oihw", after.weight[..., 0, 0], last.weight)
    spread = torch.einsum("omhw,mi->oihw", first.weight, before.weight[..., 0, 0])
    return {
        "encoder.conv_out.weight": mixed,
        "encoder.conv_out.bias": after.weight[..., 0, 0] @ last.bias + after.bias,
        "decoder.conv_in.weight": spread,
        "decoder.conv_in.bias": first.bias + torch.einsum("omhw,m->o", first.weight, before.bias),
    }


@torch.no_grad()
def encoded(source: SpriteClips, count: int, file: Path) -> Tensor:
    """Latents (count, F, C, h, w) of the first clips; kept in a file, and completed if it has fewer."""
    vae: Any = load_vae(embedded_folder() / "translation/vae", dtype=torch.float32, device="cpu")
    found = list(load_file(file)["latents"]) if file.is_file() else []
    while len(found) < count:
        clip = source.clip(len(found), num_frames=FRAMES, height=HEIGHT, width=WIDTH)[None]
        latents = vae.encode(fold_frames(clip)).latent_dist.mode() * vae.config.scaling_factor
        found.append(unfold_frames(latents, 1)[0].transpose(0, 1).half())
        if len(found) % 100 == 0 or len(found) == count:
            save_file({"latents": torch.stack(found)}, file.with_suffix(".part"))
            file.with_suffix(".part").replace(file)
            print(f"{len(found)} of {count} clips encoded", flush=True)
    return torch.stack(found[:count])


def latent_batches(latents: Tensor, source: SpriteClips, loop: LoopOptions) -> Any:
    """Batches for `fit`: mostly a few frames of clips, and in every fourth step fewer whole ones."""

    def batches(_process: int, _processes: int, start: int) -> Iterator[Batch]:
        for step in range(start, 2**60):
            rng = random.Random(f"latents {loop.seed} {step}")
            whole = step % 4 == 3
            rows = [rng.randrange(len(latents)) for _ in range(loop.batch_size // 4 if whole else loop.batch_size)]
            length = FRAMES if whole else WINDOW
            starts = [rng.randrange(FRAMES - length + 1) for _ in rows]
            parts = [latents[row, first : first + length].float() for row, first in zip(rows, starts, strict=True)]
            yield {"latents": torch.stack(parts), "caption": [source.caption(row) for row in rows]}

    return batches


def assemble(out: Path) -> Path:
    """Puts the trained networks together to the folder of a pipeline."""
    model, export = out / "model", out / "transformer/export"
    for name in ("transformer", "text_encoder", "tokenizer"):
        (model / name).mkdir(parents=True, exist_ok=True)
        for file in (export / name).iterdir():
            (model / name / file.name).write_bytes(file.read_bytes())
    three_dimensional(
        load_vae(embedded_folder() / "translation/vae", dtype=torch.float32, device="cpu")
    ).save_pretrained(model / "vae")
    schedule().save_pretrained(model / "scheduler")
    index = {
        "_class_name": "CogVideoXPipeline",
        "_diffusers_version": "0.30.0",
        "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLCogVideoX"],
    }
    (model / "model_index.json").write_text(json.dumps(index, indent=2))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("sprite-expert"))
    parser.add_argument("--clips", type=int, default=1000, help="clips to learn from")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch-size", type=int, default=8, help="samples per step, a multiple of 4")
    parser.add_argument("--checkpoint-every", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1, help="threads of the computation")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    out, source = arguments.out, SpriteClips(seed=0)
    out.mkdir(parents=True, exist_ok=True)
    latents = encoded(source, arguments.clips, out / "latents.safetensors")
    loop = LoopOptions(
        out=str(out / "transformer"),
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        optimizer="muon",
        learning_rate=2e-3,
        warmup_steps=50,
        ema_decay=0.99,
        mixed_precision="bf16",
        checkpoint_every=arguments.checkpoint_every,
        sample_every=0,
    )
    torch.manual_seed(loop.seed)
    task = CogVideoXTask(TextConditioner.from_folder(embedded_folder() / "keyframes"))
    records = {"config.json": {"task": "cogvideox", "data": source.spec, **loop.to_dict()}}
    fit(task, latent_batches(latents, source, loop), loop, name="cogvideox", records=records, on_log=print)
    print(f"wrote {assemble(out)}")


if __name__ == "__main__":
    run_script(main)
