"""How far do samplers stay from the exact path? Errors of two time grids against 900 steps of the same noise.

    python -m benchmarks solver_errors --only gaussians --write docs/samplers.md     # a minute or two
    python -m benchmarks solver_errors --only keyframes --videos 1                   # mini: ten minutes of one core

`published` is the grid of the published run: timesteps evenly spaced, of second order up to the last step, which ends
at the first timestep. `logsnr` is the setting `time_grid` of that name. Gaussians are mixtures of twelve, whose best
prediction is known, on the schedules of the published networks: in 12 dimensions they overlap, in 48 hardly. `mini`'s
networks run in float32 on their own schedules, with the guidance that `mini` uses; its expert redraws from 0.8 of the
schedule on, as the published one. An error is the root mean square of a sample's pixels in 8-bit levels.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.pages import Page, measured_on, write_option
from show1.checkpoints.locate import embedded_folder
from show1.config import TimeGrid
from show1.diffusion import IndependentSeeds, build_scheduler, sample, set_timesteps
from show1.generation.arguments import make_request
from show1.generation.pipeline import Show1Pipeline
from show1.sprites.clips import SpriteClips
from show1.stages import load_stage

PUBLISHED: dict[str, Any] = {
    "_class_name": "DPMSolverMultistepScheduler",
    "timestep_spacing": "linspace",
    "final_sigmas_type": "sigma_min",
    "euler_at_final": False,
}
"""How the published run samples."""
COSINE = {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}
LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PROMPTS = ("a panda spins over the snow", "a bicycle moves left over the beach")
REFERENCE = 900

Run = Callable[[int, TimeGrid], Tensor]
"""Samples in a number of steps on a grid, always from the same noise."""


class Mixture:
    """A mixture of Gaussians, and its best estimate of a clean sample."""

    def __init__(self, dimensions: int, narrowest: float) -> None:
        generator = torch.Generator().manual_seed(0)
        self.means = torch.rand(12, dimensions, generator=generator, dtype=torch.float64) * 1.8 - 0.9
        self.deviations = torch.rand(12, 1, generator=generator, dtype=torch.float64) * 0.15 + narrowest
        self.noise = torch.randn(128, 3, 1, 2, dimensions // 6, generator=generator)

    def denoised(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The expected clean sample of noisy ones, (N, D)."""
        variance = alpha**2 * self.deviations**2 + sigma**2
        off = x[:, None] - alpha * self.means
        likely = -0.5 * (off**2 / variance).sum(-1) - x.shape[1] / 2 * variance.log().squeeze(-1)
        each = self.means + alpha * self.deviations**2 / variance * off
        return (likely.softmax(-1)[..., None] * each).sum(1)

    def run(self, schedule: dict[str, Any]) -> Run:
        """Samples it on a schedule."""

        def run(steps: int, grid: TimeGrid) -> Tensor:
            scheduler = build_scheduler({**PUBLISHED, **schedule, "prediction_type": "v_prediction"})
            timesteps = set_timesteps(scheduler, steps, time_grid=grid)
            alphas = scheduler.alphas_cumprod.double()

            def network(x: Tensor, t: Tensor) -> Tensor:
                alpha, sigma = alphas[int(t)].sqrt(), (1 - alphas[int(t)]).sqrt()
                x0 = self.denoised(x.double().flatten(1), alpha, sigma).view_as(x)
                return (alpha * (x - alpha * x0) / sigma - sigma * x0).float()

            return sample(network, scheduler, self.noise, timesteps=timesteps, generators=[torch.Generator()])

        return run


def of_mini(stage_name: Any, videos: int, guidance: float | None) -> Run:
    """A stage of `mini` with the published solver: keyframes from noise, or the expert on rendered clips."""
    pipe = Show1Pipeline.from_pretrained("mini", dtype="float32")
    request = make_request(list(PROMPTS[:videos]), model=pipe, seed=[1, 2][:videos])
    prompts = pipe.encode(request, [stage_name])[stage_name]
    stage: Any = load_stage(stage_name, embedded_folder() / stage_name)
    stage.scheduler_config = {**stage.scheduler_config, **PUBLISHED}
    settings = getattr(pipe.settings, stage_name)
    if guidance is not None:
        settings = replace(settings, guidance_scale=guidance)
    clips = [SpriteClips(seed=7).clip(i, num_frames=29, height=80, width=128)[:, ::4] for i in range(videos)]
    video = None if stage_name == "keyframes" else torch.stack(clips)
    if video is not None:
        settings = replace(settings, strength=0.8)

    def run(steps: int, grid: TimeGrid) -> Tensor:
        asked = replace(settings, num_inference_steps=steps, time_grid=grid)
        made: Tensor = stage(video, prompts, seeds=IndependentSeeds([1, 2][:videos]), settings=asked)
        return made

    return run


def rows(name: str, run: Run, published: list[int], even: list[int]) -> Iterator[str]:
    """The rows of a table, one per grid and number of steps."""
    exact = run(REFERENCE, "checkpoint")
    grids: list[tuple[str, TimeGrid, list[int]]] = [("published", "checkpoint", published), ("logsnr", "logsnr", even)]
    for label, grid, counts in grids:
        for steps in counts:
            errors = 127.5 * (run(steps, grid) - exact).flatten(1).square().mean(1).sqrt()
            total = float(errors.square().mean().sqrt())
            yield f"| {name} | {label} | {steps} | {float(errors.median()):.2f} | {total:.2f} |"


SAMPLED = ("gaussians", "keyframes", "translation")


def errors_table(chosen: Sequence[str] = SAMPLED, *, videos: int = 2, guidance: float | None = None) -> str:
    """Measures the errors of what is chosen of `SAMPLED`; prints rows as they come.

    Args:
        chosen: What to sample.
        videos: Videos of mini's networks, 1 or 2.
        guidance: Guidance scale of mini's networks; None: as mini uses.
    """
    few, many = [13, 25, 40, 75, 125], [13, 25, 41]
    lines = ["| what is sampled | grid | steps | median error | all samples |", "|---|---|---:|---:|---:|"]
    print("\n".join(lines), flush=True)
    mini = (videos, guidance)
    tables = []
    if "gaussians" in chosen:
        for dimensions, narrowest in ((12, 0.2), (48, 0.03)):
            for schedule, of in ((COSINE, "pixel networks"), (LATENT, "expert")):
                name = f"Gaussians, {dimensions} dimensions, schedule of the {of}"
                tables.append((name, Mixture(dimensions, narrowest).run(schedule), few, many))
    if "keyframes" in chosen:
        tables.append(("keyframes of `mini`", of_mini("keyframes", *mini), [25, 75, 125], [13, 25, 41]))
    if "translation" in chosen:
        tables.append(("expert of `mini`", of_mini("translation", *mini), [17, 50], [10, 17, 25]))
    for table in tables:
        for line in rows(*table):
            lines.append(line)
            print(line, flush=True)
    lines.append(f"\nBy `python -m benchmarks solver_errors`; {measured_on()}; float32")
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SAMPLED)
    parser.add_argument("--videos", type=int, default=2, choices=[1, 2])
    parser.add_argument("--guidance", type=float, help="guidance scale of mini's networks; by default as mini uses")
    write_option(parser)
    arguments = parser.parse_args()
    page = Page(arguments.write, "solver errors")
    text = errors_table(arguments.only or SAMPLED, videos=arguments.videos, guidance=arguments.guidance)
    print(text.splitlines()[-1])
    page.write("solver errors", text)


if __name__ == "__main__":
    main()
