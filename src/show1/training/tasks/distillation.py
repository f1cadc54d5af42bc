"""Distillation: a student that does in one step, without guidance, what its teacher does in several with it.

Guidance first (arXiv:2210.03142): at every noise level, the student learns the guided prediction of the teacher. Then
the steps (arXiv:2202.00512): on the grid of noise levels that the student samples on, and nowhere else, it learns the
prediction with which one step of DDIM leads where the teacher's steps lead. Errors in the clean sample are weighted by
max(SNR, 1).
"""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from show1.checkpoints.index import Notes, read_stage_notes, write_stage_notes
from show1.config import PUBLISHED, StageSettings
from show1.data.clips import ClipSource
from show1.diffusion import Guidance, build_scheduler, fold_frames, noise_scales, predicted_x0, unfold_frames
from show1.diffusion.distillation import Level, ddim_step, replaced_steps
from show1.errors import InputError
from show1.stages.denoising import run_timesteps
from show1.training.objective import Inputs, ask, draw_timesteps, noised
from show1.training.tasks.base import Batch, Sample, Task, make_task
from show1.training.tasks.denoising import SAMPLING, DenoisingTask
from show1.training.tasks.distillation_options import DistillationOptions

_SCHEDULE = ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "trained_betas")
"""What a student's scheduler has of its teacher's."""


class DistillationTask(Task):
    """A teacher, and a student that starts as it.

    The student is the task that trains the stage: what it is given, its samples and its export are the same.

    Args:
        options: Options of the distillation, of a teacher that is on this disk.
        source: Where the clips come from.

    Raises:
        InputError: There is nothing to distil, or the student's steps are not among the teacher's.
    """

    def __init__(self, options: DistillationOptions, source: ClipSource) -> None:
        super().__init__()
        self.options = options
        self._notes = read_stage_notes(Path(str(options.teacher)), options.stage)
        settings: StageSettings = getattr(PUBLISHED.replace(**self._notes.settings), options.stage)
        if options.guidance_scale is not None:
            settings = dataclasses.replace(settings, guidance_scale=options.guidance_scale)
        self.settings = settings
        changes: dict[str, Any] = {}
        if (highest := getattr(settings, "max_timestep", None)) is not None:
            changes["max_timestep"] = min(highest, 999)
        if (level := getattr(settings, "noise_level", None)) is not None:
            changes["noise_level"] = (level, level)
        student = make_task(options.learned(**changes), source)
        assert isinstance(student, DenoisingTask)
        self.student = student
        self.teacher: nn.Module = copy.deepcopy(student.unet).requires_grad_(False)
        self._teacher_prediction = student.prediction
        self._thresholding = build_scheduler(student.scheduler_config, "dpmsolver++")
        self._make_grid(student.scheduler_config)

    def _make_grid(self, config: dict[str, Any]) -> None:
        """Decides how the student samples, and on which noise levels it learns."""
        options, settings, student = self.options, self.settings, self.student
        # a difference of nearly equal numbers tells epsilon networks of the clean sample where there is much noise
        prediction = "v_prediction" if student.prediction == "epsilon" else student.prediction
        own = {key: config[key] for key in _SCHEDULE if key in config} | SAMPLING | {"prediction_type": prediction}
        # what `export` writes of a student; a sampler of first order alone may be anyone's
        said = self._notes.settings.get(options.stage, {})
        distilled = config.get("solver_order") == 1 and said.get("guidance_scale") == 1
        only_on = settings.num_inference_steps if distilled else None
        if options.student_steps is not None:
            own["solver_order"] = 1
        elif settings.guidance_scale == 1:
            raise InputError("student_steps: the teacher has no guidance to distil; name fewer steps than it takes")
        student.scheduler_config, student.prediction = own, prediction
        steps = options.student_steps or settings.num_inference_steps
        if only_on is not None and options.replaced != only_on:
            raise InputError(
                f"teacher_steps: the teacher was distilled to {only_on} steps, and can do no others; got "
                f"{options.replaced}"
            )
        self._sampling = {
            "num_inference_steps": steps,
            "guidance_scale": 1.0,
            "guidance_interval": (0.0, 1.0),
            "negative_prompt": "",
            "scheduler": "checkpoint",
        }
        if options.student_steps is not None:
            self._sampling["time_grid"] = "checkpoint"  # other grids do not nest
        student.previewed = {**self._sampling, **{k: v for k, v in vars(settings).items() if k in _START}}
        self._each = options.replaced // steps
        self._grid: Tensor | None = None
        if options.student_steps is not None:
            self._grid = self._timesteps(options.replaced)
            if not torch.equal(self._grid[:: self._each], self._timesteps(steps)):
                raise InputError(
                    f"student_steps: the {steps} steps of the student do not begin at steps of the teacher's "
                    f"{options.replaced}; take powers of 2, or other numbers that divide one another"
                )

    def _timesteps(self, steps: int) -> Tensor:
        """The timesteps (N,) of the student's sampler, descending."""
        settings = dataclasses.replace(
            self.settings, num_inference_steps=steps, scheduler="checkpoint", time_grid="checkpoint"
        )
        return run_timesteps(build_scheduler(self.student.scheduler_config), settings)

    @property
    def text(self) -> nn.Module:
        """The text encoder, which is frozen."""
        return self.student.text

    def own_texts(self) -> list[str]:
        """See `Task.own_texts`: the teacher's negative prompt."""
        return [self.settings.negative_prompt]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task.forward`: a scalar."""
        student = self.student
        inputs = student.inputs(batch)
        x, _, t = noised(inputs, student.alphas_cumprod, self._draw_timesteps)
        level = Level(*noise_scales(t, student.alphas_cumprod))
        with torch.no_grad():
            wanted = self._guided_x0(x, t, inputs) if self._grid is None else self._after_steps(x, t, inputs)
        made = _x0(student.unet, x, t, inputs, level, student.prediction)
        return {"loss": (level.weight * (made - wanted).square()).mean()}

    def _draw_timesteps(self, count: int) -> Tensor:
        """Draws timesteps (B,) at which the student learns: any, or those at which its steps begin."""
        logit = self.options.timestep_logit
        if self._grid is None:
            return draw_timesteps(count, self.student.options.max_timestep, logit)
        begins = self._grid[:: self._each].flip(0)
        return begins[draw_timesteps(count, len(begins) - 1, logit)]

    def _after_steps(self, x: Tensor, t: Tensor, inputs: Inputs) -> Tensor:
        """The x_0 (B, C, F, H, W) with which one step of the student leads where the teacher's steps lead."""
        assert self._grid is not None
        alphas = self.student.alphas_cumprod
        # beyond the last timestep, the sample is clean
        ends = torch.cat([alphas[self._grid.to(alphas.device)], alphas.new_ones(1)])
        place = (self._grid.to(t.device)[None] == t[:, None]).int().argmax(1)
        begin = now = Level(*noise_scales(place, ends))
        y = x
        for _ in range(self._each):
            x0 = self._guided_x0(y, self._grid.to(t.device)[place], inputs)
            place = place + 1
            after = Level(*noise_scales(place, ends))
            y, now = ddim_step(y, x0, now, after), after
        return replaced_steps(x, y, begin, now)

    def _guided_x0(self, x: Tensor, t: Tensor, inputs: Inputs) -> Tensor:
        """The teacher's guided estimate of the clean samples, (B, C, F, H, W)."""
        settings, student = self.settings, self.student
        level = Level(*noise_scales(t, student.alphas_cumprod))
        guidance = Guidance(
            scale=settings.guidance_scale,
            interval=settings.guidance_interval,
            num_train_timesteps=len(student.alphas_cumprod),
        )
        scales = [settings.guidance_scale if guidance.applies(float(each)) else 1.0 for each in t]
        if all(scale == 1 for scale in scales):
            x0 = _x0(self.teacher, x, t, inputs, level, self._teacher_prediction)
        else:
            avoided = self.student.text([settings.negative_prompt]).expand_as(inputs.text)
            both = _doubled(inputs, torch.cat([avoided, inputs.text]))
            twice = Level(level.alpha.repeat(2, 1, 1, 1, 1), level.sigma.repeat(2, 1, 1, 1, 1))
            halves = _x0(self.teacher, x.repeat(2, 1, 1, 1, 1), t.repeat(2), both, twice, self._teacher_prediction)
            uncond, cond = halves.chunk(2)  # guiding x_0 is guiding any prediction: all are linear in one another
            x0 = uncond + x.new_tensor(scales).view(-1, 1, 1, 1, 1) * (cond - uncond)
        if self._thresholding.config.thresholding:
            x0 = unfold_frames(self._thresholding._threshold_sample(fold_frames(x0)), len(x0))
        return x0

    def export(self, folder: Path) -> None:
        """See `Task.export`: the folder says in how many steps, and that it samples without guidance."""
        self.student.export(folder)
        found, stage = read_stage_notes(folder, self.options.stage).settings, self.options.stage
        write_stage_notes(folder, stage, Notes(settings={**found, stage: {**found[stage], **self._sampling}}))

    def preview(self, batch: Batch) -> list[Sample]:
        """See `Task.preview`: (3, F, H, W) each, by the student in as many steps as it learns."""
        return self.student.preview(batch)

    def restore(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """See `Task.restore`: (B, 3, F, H, W) each."""
        return self.student.restore(batch)


_START = ("strength", "max_timestep", "level")
"""Settings that say where sampling begins."""


def _x0(unet: nn.Module, x: Tensor, t: Tensor, inputs: Inputs, level: Level, prediction: Any) -> Tensor:
    """A network's estimate of the clean samples, (B, C, F, H, W) float32."""
    given = x if inputs.condition is None else torch.cat([x, inputs.condition], dim=1)
    levels = () if inputs.noise_level is None else (inputs.noise_level,)
    out = ask(unet, given, t, inputs.text, *levels)[:, : x.shape[1]].float()
    return predicted_x0(x, out, level.alpha, level.sigma, prediction)


def _doubled(inputs: Inputs, text: Tensor) -> Inputs:
    """The same batch twice, with text states (2B, L, D)."""
    condition, level = inputs.condition, inputs.noise_level
    return dataclasses.replace(
        inputs,
        text=text,
        condition=None if condition is None else condition.repeat(2, 1, 1, 1, 1),
        noise_level=None if level is None else level.repeat(2),
    )
