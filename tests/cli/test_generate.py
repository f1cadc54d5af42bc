"""`show1 generate` and `show1 resume`, from a prompt to files."""

import inspect
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from show1.generation.run import Run
from show1.networks import UNet3DConditionModel
from show1.runtime import placement
from show1.video import Video
from tests.cli.conftest import Show1, signalled_at

PROMPT = "a panda spins over the snow"
STAGES = ["keyframes", "interpolation", "super_resolution", "translation"]


def test_a_video_its_record_and_its_repetition(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    made = show1("generate", PROMPT, "--model", cascade, "--seed", 7, "--json", "--sheet", "sheet.png")
    assert made.code == 0, made.err
    assert made.err == ""
    result = made.json
    file = tmp_path / "a-panda-spins-over-the-snow.mp4"
    assert result["file"] == str(file) and result["seed"] == 7
    assert list(result["stages"]) == ["text", *STAGES]
    assert all(cost["seconds"] > 0 and cost["peak_memory_bytes"] > 0 for cost in result["stages"].values())
    assert Path(result["run"], "manifest.json").is_file()
    assert (tmp_path / "sheet.png").stat().st_size > 0
    video = Video.load(file)
    assert video.frames.shape == (5, 24, 40, 3) and video.fps == 4

    seen = show1("inspect", file, "--json").json
    assert seen["frames"] == 5 and seen["metadata"]["seed"] == 7
    assert "show1 generate --from" in show1("inspect", file).out
    assert show1("inspect", result["run"], "--json").json["finished_stages"] == STAGES

    again = show1("generate", "--from", file, "-o", "again.mp4", "--run", "again", "--quiet")
    assert again.code == 0 and again.out == "again.mp4\n" and again.err == ""
    # not the files: x264 is not always the same at sizes that are no multiple of 16
    first, second = (Run.open(run).load("translation") for run in (result["run"], tmp_path / "again"))
    assert torch.equal(first, second)

    other = show1("generate", "--from", file, "--seed", 8, "--until", "keyframes", "--dry-run", "--json").json
    assert other["request"]["seeds"] == [8] and other["request"]["stages"] == ["keyframes"]
    assert other["request"]["prompts"] == [PROMPT] and other["model"] == str(cascade)


def test_drafts_then_one_of_them_carried_on(
    show1: Show1, cascade: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = show1(
        "generate", "a panda", "-m", cascade, "--seed", 0, "--until", "keyframes", "--count", 2,
        "--sheet", "drafts.png", "--run", "run", "-o", "panda.mkv",
    )  # fmt: skip
    assert drafts.code == 0, drafts.err
    assert drafts.out.split() == ["panda-1.mkv", "panda-2.mkv"]
    assert "show1 resume run --pick N" in drafts.err
    assert len(Video.load("panda-2.mkv")) == 3 and Path("drafts.png").is_file()

    picked = show1("resume", "run", "--pick", 2, "--json")
    assert picked.code == 0, picked.err
    assert picked.json["file"] == str(tmp_path / "panda.mkv") and picked.json["seed"] == 1
    assert torch.equal(Run.open("run/pick-2").load("keyframes"), Run.open("run").load("keyframes")[1:])
    # two keyframes at once round otherwise than one, and random networks make more of that, here and there
    difference = Video.load("panda.mkv").frames.astype(int) - Video.load(whole).frames
    assert np.median(np.abs(difference)) <= 1

    with signalled_at("interpolation: done"):
        assert show1("resume", "run", "--pick", 1).code == 130
    assert show1("inspect", "run/pick-1", "--json").json["output"]["path"] == str(tmp_path / "panda-pick-1.mkv")
    outside = show1("resume", "run", "--pick", 3)
    assert outside.code == 2 and "1 to 2" in outside.err


def test_ctrl_c_keeps_the_run_and_says_how_to_go_on(
    show1: Show1, cascade: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with signalled_at("interpolation: done"):
        stopped = show1("generate", "a panda", "-m", cascade, "--seed", 1, "-o", "panda.mkv", "--run", "my run")
    assert stopped.code == 130
    assert "show1 resume 'my run'" in stopped.err and "Traceback" not in stopped.err
    assert not Path("panda.mkv").exists()
    assert show1("inspect", "my run", "--json").json["finished_stages"] == STAGES[:2]

    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")  # the file is written where it was asked for, wherever the run is resumed
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)  # the run goes on with as many as it began with: sums round alike
    resumed = show1("resume", tmp_path / "my run")
    assert resumed.code == 0, resumed.err
    assert torch.get_num_threads() == threads
    assert "keyframes" not in resumed.err and "super_resolution: done" in resumed.err
    assert (Video.load(tmp_path / "panda.mkv").frames == Video.load(whole).frames).all()

    once_more = show1("resume", tmp_path / "my run")
    assert once_more.code == 0 and once_more.out == f"{tmp_path / 'panda.mkv'}\n"


def test_a_run_can_be_repeated_by_the_same_command(show1: Show1, cascade: Path) -> None:
    asked = ("generate", PROMPT, "-m", cascade, "--until", "keyframes", "--run", "run", "--overwrite", "-o", "a.gif")
    assert show1(*asked, "--seed", 1).code == 0
    again = show1(*asked, "--seed", 1)
    assert again.code == 0 and "keyframes: done" not in again.err
    other = show1(*asked, "--seed", 2)
    assert other.code == 2 and "another request" in other.err
    renamed = [*asked[:-1], "b.gif"]
    assert show1(*renamed, "--seed", 2).code == 2
    assert Run.open("run").output.path.endswith("a.gif")  # a request that is refused changes nothing
    assert show1(*renamed, "--seed", 1).code == 0 and Run.open("run").output.path.endswith("b.gif")


def test_repeating_with_other_weights_is_told(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(cascade, model)
    assert show1("generate", PROMPT, "-m", model, "--until", "keyframes", "-o", "a.mp4", "-q").code == 0
    weights = model / "keyframes" / "unet" / "diffusion_pytorch_model.safetensors"
    changed = load_file(weights)
    changed["conv_out.bias"] += 1
    save_file(changed, weights)
    again = show1("generate", "--from", "a.mp4", "-o", "b.mp4", "-q")
    assert again.code == 0 and "warning: the model has other weights" in again.err


def test_default_names_do_not_collide(show1: Show1, cascade: Path) -> None:
    asked = ("generate", "A Panda!  spins", "-m", cascade, "--until", "keyframes", "--dry-run", "--json")
    Path("a-panda-spins.mp4").touch()
    assert [Path(f).name for f in show1(*asked).json["files"]] == ["a-panda-spins-2.mp4"]
    assert [Path(f).name for f in show1(*asked, "--overwrite").json["files"]] == ["a-panda-spins.mp4"]
    asked = ("generate", "word " * 40, "-m", cascade, "--dry-run", "--json")
    assert len(Path(show1(*asked).json["files"][0]).name) < 70


def test_dry_run_shows_the_resolved_settings_and_makes_nothing(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    plan = show1(
        "generate", PROMPT, "-m", cascade, "--dry-run", "--keyframes", 5, "--negative-prompt", "blur",
        "--set", "keyframes.guidance_scale=5", "--set", "translation.guidance_interval=0.1,0.9",
        "--set", "interpolation.max_batch=2", "--set", "super_resolution.scheduler=ddim", "--set", "clean_prompt=none",
    )  # fmt: skip
    assert plan.code == 0, plan.err
    for line in (
        "keyframes.guidance_scale=5.0",
        "keyframes.num_frames=5",
        "translation.guidance_interval=0.1,0.9",
        "translation.negative_prompt=blur",
        "interpolation.max_batch=2",
        "super_resolution.scheduler=ddim",
        "clean_prompt=none",
    ):
        assert f"  {line}\n" in plan.out
    assert "9 frames of 24x40" in plan.out
    assert list(tmp_path.iterdir()) == []


def test_a_long_prompt_is_cut_with_a_warning_that_names_what_is_lost(show1: Show1, cascade: Path) -> None:
    prompt = "a panda spins over the snow " * 20 + "beside a lighthouse"
    made = show1("generate", prompt, "-m", cascade, "--until", "keyframes", "--seed", 1, "-o", "long.mp4", "--quiet")
    assert made.code == 0, made.err
    assert "warning: the prompt is longer than 77 tokens" in made.err
    assert "beside a lighthouse" in made.err


def test_frames_in_a_folder(show1: Show1, cascade: Path) -> None:
    made = show1("generate", PROMPT, "-m", cascade, "--until", "keyframes", "--count", 2, "-o", "frames/", "--seed", 1)
    assert made.code == 0, made.err
    assert made.out == "frames-1/\nframes-2/\n"
    assert len(list(Path("frames-2").iterdir())) == 3
    assert show1("inspect", "frames-2", "--json").json["metadata"]["seed"] == 2


def test_model_of_parts(show1: Show1, cascade: Path) -> None:
    parts = f"keyframes={cascade},interpolation={cascade}"
    plan = show1("generate", PROMPT, "-m", parts, "--dry-run", "--json")
    assert plan.code == 0, plan.err
    assert plan.json["request"]["stages"] == ["keyframes", "interpolation"] and plan.json["frames"] == 5


def test_a_resumption_sweeps_what_a_killed_encoding_left(
    show1: Show1, cascade: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["generate", PROMPT, "-m", cascade, "--until", "keyframes", "--run", "run", "-o", "panda.mkv"]
    with monkeypatch.context() as patch:
        patch.setattr("show1.media.destination._remove", lambda _: None)  # a killed process removes nothing
        patch.setattr("show1.media.destination._flush_to_disk", lambda _: 1 / 0)
        assert show1(*asked).code == 1
    (left,) = tmp_path.glob(".*.partial")
    other = tmp_path / ".0123456789ab-0123.partial"
    other.touch()  # of another output
    assert show1("resume", "run", "-q").code == 0 and Path("panda.mkv").exists()
    assert not left.exists() and other.exists()


def test_options_of_files_count_for_a_finished_run(show1: Show1, whole: Path) -> None:
    shutil.copytree(whole.parent / "run", "run")
    Path("sheet.png").write_text("mine")
    asked = ["resume", "run", "-o", "panda.mkv", "--sheet", "sheet.png", "--quiet"]
    refused = show1(*asked)
    assert refused.code == 2 and "sheet.png exists already" in refused.err
    assert Path("sheet.png").read_text() == "mine" and not Path("panda.mkv").exists()
    assert show1(*asked, "--overwrite").code == 0 and Path("sheet.png").read_bytes().startswith(b"\x89PNG")
    before = Path("panda.mkv").stat().st_mtime_ns
    assert show1(*asked[:4]).code == 0 and Path("panda.mkv").stat().st_mtime_ns == before
    assert show1(*asked[:4], "--overwrite").code == 0 and Path("panda.mkv").stat().st_mtime_ns > before


def test_a_finished_run_on_a_disk_that_cannot_be_written(
    show1: Show1, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    shutil.copytree(whole.parent / "run", "run")
    monkeypatch.setattr("show1.generation.run.FileLock.acquire", refuse)
    monkeypatch.setattr("show1.generation.run.write_json", refuse)
    made = show1("resume", "run", "-o", "panda.mkv")
    assert made.code == 0, made.err
    assert (Video.load("panda.mkv").frames == Video.load(whole).frames).all()
    Path("run/translation.safetensors").unlink()
    failed = show1("resume", "run", "-o", "other.mkv")
    assert failed.code == 2 and "run cannot be written: Read-only file system" in failed.err


def test_a_run_of_one_stage_is_resumed_where_the_model_has_no_other(show1: Show1, whole: Path, cascade: Path) -> None:
    shutil.copytree(cascade, "tiny")
    shutil.rmtree("tiny/interpolation")
    asked = ["refine", whole, "-m", "tiny", "--stage", "translation", "--seed", 1, "--run", "run", "-o", "out.mkv"]
    with signalled_at("translation: done"):
        stopped = show1(*asked)
    assert stopped.code == 130 and "To resume: show1 resume run" in stopped.err
    resumed = show1("resume", "run")
    assert resumed.code == 0 and resumed.out == "out.mkv\n", resumed.err
    picked = show1("resume", "run", "--pick", 1, "-o", "picked.mkv")
    assert picked.code == 0, picked.err
    assert (Video.load("picked.mkv").frames == Video.load("out.mkv").frames).all()


def test_a_second_process_is_refused_without_advice_to_resume(show1: Show1, whole: Path) -> None:
    shutil.copytree(whole.parent / "run", "run")
    with Run.open("run"):
        failed = show1("resume", "run")
    assert failed.code == 2 and "being written by another process" in failed.err and "To resume" not in failed.err


def test_settings_that_cannot_work_are_found_before_the_work(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    asked = ["generate", PROMPT, "-m", cascade, "--set", "translation.num_inference_steps=1"]
    for options in (["--dry-run"], ["-q"]):
        failed = show1(*asked, *options)
        assert failed.code == 2 and "the settings of translation cannot work: all 1 steps begin above" in failed.err
    assert list(tmp_path.iterdir()) == []


def test_resume_takes_settings_of_stages_to_come(show1: Show1, cascade: Path) -> None:
    asked = ["generate", PROMPT, "-m", cascade, "--run", "run", "-o", "panda.mkv", "-q"]
    assert show1(*asked, "--until", "keyframes").code == 0
    change = ["--set", "translation.num_inference_steps=3"]
    Path("panda.mkv").unlink()
    made = show1("resume", "run", "--pick", 1, "-q", *change)
    assert made.code == 0, made.err
    assert Video.load("panda.mkv").metadata["settings"]["translation"]["num_inference_steps"] == 3
    failed = show1("resume", "run", "--set", "keyframes.num_inference_steps=3")
    assert failed.code == 2 and "with keyframes.num_inference_steps 2 instead of 3" in failed.err


def test_a_run_and_a_video_keep_their_precision(show1: Show1, cascade: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default of the machine may change between the commands: it is that of a processor with bfloat16 at last."""
    asked = ["generate", PROMPT, "-m", cascade, "--run", "run", "--seed", 1, "-o", "a.mkv", "-q"]
    assert show1(*asked, "--until", "keyframes").code == 0
    monkeypatch.setattr(placement, "computes_bfloat16", lambda: True)
    assert show1("resume", "run", "--pick", 1, "-o", "b.mkv", "-q").code == 0
    assert Video.load("b.mkv").metadata["dtype"] == "float32"
    again = ["--until", "interpolation", "-o", "c.mkv", "-q"]
    assert show1(*asked[:-3], *again).code == 0 and Run.open("run").manifest.dtype == "float32"
    assert show1("generate", "--from", "b.mkv", "-o", "d.mkv", "-q").code == 0
    assert (Video.load("d.mkv").frames == Video.load("b.mkv").frames).all()
    other = show1("resume", "run", "--dtype", "bfloat16", "-o", "e.mkv")
    assert other.code == 0 and "began with dtype float32 and is resumed with bfloat16" in other.err
    assert show1(*asked[:4], "--run", "new", "--until", "keyframes", "-o", "f.mkv", "-q").code == 0
    assert Run.open("new").manifest.dtype == "bfloat16"
    manifest = json.loads(Path("new/manifest.json").read_text())
    del manifest["dtype"]  # as of the first versions, all of which computed in float32
    Path("new/manifest.json").write_text(json.dumps(manifest))
    assert show1("resume", "new", "--pick", 1, "-o", "g.mkv", "-q").code == 0
    assert Video.load("g.mkv").metadata["dtype"] == "float32"


def test_a_current_folder_that_is_gone(show1: Show1, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    for command in (["generate", PROMPT, "-o", tmp_path / "panda.mkv"], ["env"], ["resume", tmp_path / "run"]):
        failed = show1(*command)
        assert failed.code == 1 and "the current folder does not exist any more" in failed.err
    assert show1("--version").code == 0 and not list(tmp_path.iterdir())


def test_a_tilde_is_the_home_folder_everywhere(
    show1: Show1, cascade: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(cascade, home / "model")
    monkeypatch.setenv("HOME", str(home))
    asked = ["--until=keyframes", "-q", "--seed=1"]
    made = show1("generate", "a panda", "--model=~/model", "--output=~/a.mkv", "--sheet=~/a.png", "--run=~/run", *asked)
    assert made.code == 0, made.err
    assert {"a.mkv", "a.png", "run"} <= {file.name for file in home.iterdir()}
    assert (
        show1("inspect", "~/a.mkv").code == show1("inspect", "~/run").code == show1("resume", "~/run", "-q").code == 0
    )
    assert show1("generate", "--from", "~/a.mkv", "-o", "~/b.mkv", "--run", "~/again", *asked).code == 0
    (home / "p.txt").write_text("a panda\n")
    assert (
        show1("generate", "--prompts=~/p.txt", "-m", "~/model", "-o", "~/many/", "--run=~/many-runs", *asked).code == 0
    )
    options = ["--start-from=super_resolution", "--until=super_resolution", "-q", "--run=~/third"]
    assert show1("generate", "x", "-m", "~/model", "--video=~/a.mkv", "-o", "~/c.mkv", *options).code == 0
    assert show1("models", "verify", "~/model").code == show1("models", "convert", "~/model").code == 0
    assert [file.name for file in tmp_path.iterdir()] == ["home"]


def test_few_calls_lie_between_the_command_and_the_network(
    show1: Show1, cascade: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the code from the command down should reach the network soon."""
    way: list[str] = []
    forward = UNet3DConditionModel.forward

    def traced(self: Any, *args: Any, **options: Any) -> Any:
        files = [(f.filename.partition("/src/show1/")[2], f.function) for f in inspect.stack(context=0)]
        begin = files.index(("cli/generate.py", "generate"))  # what starts the command, for all commands, is above it
        way[:] = [function for file, function in files[: begin + 1] if file and not function.startswith("<")]
        return forward(self, *args, **options)

    monkeypatch.setattr(UNet3DConditionModel, "forward", traced)
    show1("generate", "a red ball", "--model", cascade, "--until", "keyframes", "-o", "a.mp4")
    assert way and len(way) <= 8, way


def test_a_dry_run_predicts_the_time_by_earlier_runs(show1: Show1, cascade: Path) -> None:
    asked = ("generate", PROMPT, "-m", cascade, "--dry-run")
    assert "time       unknown, until a run in runs/" in show1(*asked).out
    show1("generate", PROMPT, "-m", cascade, "--until", "keyframes", "-o", "a.mp4")
    Path("runs", "damaged").mkdir()
    Path("runs", "damaged", "manifest.json").write_text("{")
    (manifest,) = Path("runs").glob("2*/manifest.json")
    took = json.loads(manifest.read_text())["stages"]["keyframes"]["seconds"]
    assert show1(*asked, "--json").json["expected_seconds"] == {"keyframes": pytest.approx(took)}
    assert "; interpolation, super_resolution, translation: unknown)" in show1(*asked).out
    longer = show1(*asked, "--json", "--count", 3, "--set", "keyframes.num_inference_steps=10").json
    steps = show1(*asked, "--json").json["request"]["settings"]["keyframes"]["num_inference_steps"]
    assert longer["expected_seconds"] == {"keyframes": pytest.approx(3 * took * 10 / steps)}
    assert show1(*asked, "--json", "--dtype", "float64").json["expected_seconds"] == {}
