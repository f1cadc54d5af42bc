"""Distillation: what the student learns, what its folder says, resuming, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from show1.diffusion import build_scheduler, sample, set_timesteps
from show1.errors import Cancelled, InputError, ModelNotFoundError, RunError
from show1.generation.pipeline import Show1Pipeline
from show1.training import describe
from show1.training.folders import on_this_disk
from show1.training.tasks.base import make_task
from show1.training.tasks.distillation import DistillationTask
from show1.training.tasks.distillation_options import DISTILLATIONS
from tests.training.tiny_training import Exports, clips, config, exported, losses, run

STAGES = ("keyframes", "interpolation", "super_resolution", "translation")


def asked(stage: str, exports: Exports, out: Path = Path("unused"), **options: Any) -> Any:
    given = {"teacher": str(exports[stage]), **options}
    if stage == "super_resolution":
        given = {"text": str(exports["text"]), **given}
    if stage == "interpolation":
        given = {"text": str(exports["keyframes"]), **given}
    return config(f"distil_{stage}", out, **given)


def made(stage: str, exports: Exports, **options: Any) -> DistillationTask:
    chosen = asked(stage, exports, **options)
    torch.manual_seed(0)
    task = make_task(on_this_disk(chosen.options, chosen.loop.folder), clips(chosen))
    assert isinstance(task, DistillationTask)
    return task


class Affine(nn.Module):
    """A network that is linear in the noisy sample and the text, with numbers of its own for each timestep.

    Several steps of DDIM with such a network are one step with another such network: a student can be perfect.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        drawn = torch.randn(1000, 2, generator=torch.Generator().manual_seed(seed))
        self.numbers = nn.Parameter(torch.tensor([0.3, 0.5]) + 0.2 * drawn)

    def forward(self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor, return_dict: bool = False) -> list[Tensor]:
        gain, shift = self.numbers[t].view(-1, 2, 1, 1, 1, 1).unbind(1)
        return [gain * x + shift * encoder_hidden_states.mean((1, 2)).view(-1, 1, 1, 1, 1)]


def with_affine_networks(task: DistillationTask) -> DistillationTask:
    task.student.unet, task.teacher = Affine(seed=1), Affine(seed=1).requires_grad_(False)
    return task


BATCH = {"video": torch.randn(8, 3, 3, 8, 8, generator=torch.Generator().manual_seed(2)), "caption": ["a cat"] * 8}


def learn(task: DistillationTask, steps: int) -> float:
    optimizer = torch.optim.Adam(task.student.unet.parameters(), lr=0.05)
    task.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / steps)
        loss = task(BATCH)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def sampled(network: Any, scheduler_config: dict[str, Any], steps: int) -> Tensor:
    scheduler = build_scheduler(scheduler_config)
    timesteps = set_timesteps(scheduler, steps)
    noise = torch.randn(1, 3, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    return sample(network, scheduler, noise, timesteps=timesteps, generators=[torch.Generator()])


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon", "sample"])
def test_a_student_that_can_do_the_teachers_steps_in_one_learns_to(
    exports: Exports, tmp_path: Path, prediction: str
) -> None:
    teacher = teacher_that_predicts(prediction, exports, tmp_path)
    task = with_affine_networks(
        made("keyframes", exports, teacher=str(teacher), student_steps=4, teacher_steps=8, guidance_scale=2.0)
    )
    assert task.student.prediction == ("v_prediction" if prediction == "epsilon" else prediction)
    if prediction == "epsilon":  # of a network that finds the same clean samples
        alpha, sigma = task.student.alphas_cumprod.sqrt()[:, None], (1 - task.student.alphas_cumprod).sqrt()
        numbers = alpha * task.teacher.numbers + torch.stack([sigma, torch.zeros(1000)], 1)
        task.teacher.numbers.data = numbers.detach()
    assert learn(task, 150) < 1e-4
    cond, uncond = task.text(["a cat"]), task.text([""])

    def student(x: Tensor, t: Tensor) -> Tensor:
        return task.student.unet(x, t[None], cond)[0]

    def guided(x: Tensor, t: Tensor) -> Tensor:
        halves = [task.teacher(x, t[None], text)[0] for text in (uncond, cond)]
        return halves[0] + 2.0 * (halves[1] - halves[0])

    own = task.student.scheduler_config
    expected = sampled(guided, {**own, "prediction_type": prediction}, 8)
    missed = [float((sampled(student, own, steps) - expected).detach().abs().max()) for steps in (4, 8)]
    assert missed[0] < 0.02 and missed[1] > 0.05  # it can do no other steps


def teacher_that_predicts(prediction: str, exports: Exports, folder: Path) -> Path:
    teacher = shutil.copytree(exports["keyframes"], folder / "teacher")
    file = teacher / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prediction_type": prediction}))
    return teacher


def test_guidance_becomes_a_part_of_the_student_at_every_noise_level(exports: Exports, tmp_path: Path) -> None:
    teacher = teacher_that_predicts("v_prediction", exports, tmp_path)
    notes = json.loads((teacher / "stage.json").read_text())
    notes["settings"] |= {"guidance_interval": [0.0, 0.5], "negative_prompt": "a dog", "guidance_scale": 3.0}
    (teacher / "stage.json").write_text(json.dumps(notes))
    task = with_affine_networks(made("keyframes", exports, teacher=str(teacher)))
    cond, uncond = (task.text([text]).mean() for text in ("a cat", "a dog"))
    assert float(task(BATCH)["loss"].detach()) > 1e-3
    # guided by the dog, up to the middle of the noise levels
    guided = torch.where(torch.arange(1000) <= 500, (uncond + 3 * (cond - uncond)) / cond, torch.ones(1000))
    task.student.unet.numbers.data[:, 1] *= guided
    assert all(float(task(BATCH)["loss"].detach()) < 1e-9 for _ in range(20))


def test_the_export_says_how_to_sample(exports: Exports, tmp_path: Path) -> None:
    first = run(asked("keyframes", exports, tmp_path / "guided", steps=1))
    settings = Show1Pipeline.from_pretrained(first).settings.keyframes
    assert (settings.num_inference_steps, settings.guidance_scale) == (32, 1.0)
    chosen = asked("keyframes", exports, tmp_path / "few", teacher=str(first), student_steps=16, steps=1)
    second = run(chosen)
    pipe = Show1Pipeline.from_pretrained(second)
    settings = pipe.settings.keyframes
    assert (settings.num_inference_steps, settings.guidance_scale) == (16, 1.0)
    assert (settings.num_frames, settings.height, settings.width) == (3, 8, 8)
    assert json.loads((second / "scheduler" / "scheduler_config.json").read_text())["solver_order"] == 1
    assert pipe("a panda spins over the snow", seed=1).frames.shape == (3, 8, 8, 3)
    assert f"| `--teacher` | `{first}` |" in (second / "README.md").read_text()
    with pytest.raises(InputError, match="the teacher was distilled to 16 steps, and can do no others; got 8"):
        made("keyframes", exports, teacher=str(second), student_steps=4)
    made("keyframes", exports, teacher=str(second), student_steps=8)


def changed(teacher: Path, folder: Path, settings: dict[str, Any], **schedule: Any) -> Path:
    """A copy of a teacher with other settings and another scheduler."""
    copy = shutil.copytree(teacher, folder)
    notes, file = json.loads((copy / "stage.json").read_text()), copy / "scheduler" / "scheduler_config.json"
    notes["settings"] |= settings
    (copy / "stage.json").write_text(json.dumps(notes))
    file.write_text(json.dumps({**json.loads(file.read_text()), **schedule}))
    return copy


def test_a_teacher_whose_sampler_is_of_first_order_need_not_be_a_student(exports: Exports, tmp_path: Path) -> None:
    settings = {"num_inference_steps": 16, "guidance_scale": 3.0}
    teacher = changed(exports["keyframes"], tmp_path / "teacher", settings, solver_order=1)
    made("keyframes", exports, teacher=str(teacher), student_steps=4)


def test_the_steps_nest_whatever_grid_the_teacher_samples_on(exports: Exports, tmp_path: Path) -> None:
    settings = {"num_inference_steps": 16, "time_grid": "logsnr"}
    teacher = changed(exports["keyframes"], tmp_path / "teacher", settings)
    export = run(asked("keyframes", exports, tmp_path / "run", teacher=str(teacher), student_steps=4, steps=1))
    assert json.loads((export / "stage.json").read_text())["settings"]["time_grid"] == "checkpoint"
    assert Show1Pipeline.from_pretrained(export).settings.keyframes.time_grid == "checkpoint"


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_can_be_distilled(exports: Exports, tmp_path: Path, stage: str) -> None:
    teacher = shutil.copytree(exports[stage], tmp_path / "teacher")
    notes = json.loads((teacher / "stage.json").read_text())
    notes["settings"]["num_inference_steps"] = 20
    (teacher / "stage.json").write_text(json.dumps(notes))
    chosen = asked(stage, exports, tmp_path / "run", teacher=str(teacher), student_steps=10, steps=2)
    export = run(chosen)
    assert (tmp_path / "run" / "samples").is_dir()
    settings = json.loads((export / "stage.json").read_text())["settings"]
    assert (settings["num_inference_steps"], settings["guidance_scale"]) == (10, 1.0)
    kept = {**notes["settings"], "num_inference_steps": 10, "guidance_scale": 1.0, "time_grid": "checkpoint"}
    assert {**settings, "fps": 0} == {**kept, "fps": 0}
    assert len(losses(tmp_path / "run")) == 2


def test_the_expert_learns_only_where_it_samples(exports: Exports) -> None:
    task = made("translation", exports, student_steps=5)
    strength = task.settings.strength  # type: ignore[attr-defined]
    drawn = task._draw_timesteps(200)
    assert 0 < strength < 1 and int(drawn.max()) < 1000 * strength and len(drawn.unique()) == int(5 * strength)


def test_a_stopped_distillation_ends_with_the_same_weights(exports: Exports, tmp_path: Path) -> None:
    whole = asked("keyframes", exports, tmp_path / "whole", student_steps=8, mixed_precision="bf16")
    run(whole)
    stopped = asked("keyframes", exports, tmp_path / "stopped", student_steps=8, mixed_precision="bf16")
    seen: list[Any] = []
    with pytest.raises(Cancelled):
        run(stopped, on_log=seen.append, stop=lambda: len(seen) >= 2)
    run(stopped)
    assert exported(tmp_path / "whole") == exported(tmp_path / "stopped")
    assert losses(tmp_path / "whole") == losses(tmp_path / "stopped")


def test_another_teacher_is_another_run(exports: Exports, tmp_path: Path) -> None:
    teacher = shutil.copytree(exports["keyframes"], tmp_path / "teacher")
    chosen = asked("keyframes", exports, tmp_path / "run", teacher=str(teacher), steps=1)
    run(chosen)
    moved = tmp_path / "moved"
    teacher.rename(moved)
    run(asked("keyframes", exports, tmp_path / "run", teacher=str(moved), steps=1))  # the same under another name
    weights = next((moved / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    with pytest.raises(RunError, match="--teacher"):
        run(asked("keyframes", exports, tmp_path / "run", teacher=str(moved), steps=2))


def test_a_model_can_be_the_teacher(tmp_path: Path) -> None:
    chosen = config("distil_keyframes", tmp_path / "run", teacher="mini", network="mini", student_steps=16)
    told = describe(chosen.options, chosen.loop, clips(chosen))
    assert told["trained_parameters"] > 9e6 and told["config"]["teacher"] == "mini"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": None}, "teacher: name the model to distil by --teacher"),
        ({"student_steps": 8, "teacher_steps": 12}, "teacher_steps must be a multiple of the 8 student_steps, got 12"),
        ({"student_steps": 8, "teacher_steps": 8}, "teacher_steps must be a multiple of the 8 student_steps, got 8"),
        ({"teacher_steps": 8}, "teacher_steps needs student_steps"),
        ({"student_steps": 0}, "student_steps must be from 1 to 1000, got 0"),
        ({"init": "x"}, "unknown training option 'init'"),
    ],
)
def test_bad_options_are_refused(exports: Exports, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked("keyframes", exports, **options)


def test_what_cannot_be_distilled_is_refused(exports: Exports) -> None:
    with pytest.raises(InputError, match="student_steps: the teacher has no guidance to distil"):
        made("interpolation", exports)
    with pytest.raises(InputError, match="student_steps: the 6 steps of the student do not begin at steps of the"):
        made("translation", exports, student_steps=6, teacher_steps=18)
    with pytest.raises(InputError, match="text: .* has no text encoder"):
        made("super_resolution", exports, text=None, student_steps=8)
    with pytest.raises(ModelNotFoundError, match="no model or folder 'nowhere'"):
        made("keyframes", exports, teacher="nowhere")


def test_each_stage_has_its_options() -> None:
    assert tuple(kind.stage for kind in DISTILLATIONS) == STAGES
    assert tuple(kind.command() for kind in DISTILLATIONS) == tuple(f"distil {stage}" for stage in STAGES)
