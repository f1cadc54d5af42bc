"""Bad input and bad luck: one clear message, the right exit code, never a traceback, nothing half-written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from show1.cli.failures import run_script
from show1.config import PUBLISHED
from show1.errors import InputError
from show1.video import Video
from tests.cli.conftest import Show1, signalled_at
from tests.full_disk import largest_file

BAD_OPTIONS = {
    "empty prompt": (["", "-m", "{tiny}"], "the prompt is empty"),
    "blank prompt": (["  ", "-m", "{tiny}"], "the prompt is empty"),
    "no prompt": (["-m", "{tiny}"], "there is no prompt"),
    "unknown model": (["x", "-m", "minni"], "did you mean 'mini'"),
    "no model at home": (["x", "-m", "~/nothere"], f"no model or folder '{Path.home()}/nothere'"),
    "no cascade": (["x", "-m", "/usr"], "is not a cascade"),
    "offline": (["x", "-m", "someone/something"], "show1 models download"),
    "unknown part": (["x", "-m", "keyframes=mini,interpolatoin=mini"], "did you mean 'interpolation'"),
    "no keyframes": (["x", "-m", "{tiny}", "--keyframes", "0"], "keyframes.num_frames must be from 1 to 1024"),
    "too small": (["x", "-m", "{tiny}", "--set", "keyframes.height=5"], "keyframes.height must be from 8"),
    "no multiple of 8": (["x", "-m", "{tiny}", "--set", "translation.width=100"], "multiples of 8"),
    "unknown option": (["x", "-m", "{tiny}", "--set", "keyframes.guidance=5"], "did you mean 'guidance_scale'"),
    "a stage's option": (["x", "--set", "num_inference_steps=5"], "such as --set keyframes.num_inference_steps=5; the"),
    "known options": (["x", "--set", "keyframes.stepps=1"], "option 'stepps'; there are num_inference_steps, "),
    "unknown stage": (["x", "-m", "{tiny}", "--set", "keyframe.height=8"], "did you mean 'keyframes'"),
    "no value": (["x", "-m", "{tiny}", "--set", "keyframes.height"], "expected KEY=VALUE"),
    "no number": (["x", "-m", "{tiny}", "--set", "keyframes.height=big"], "expected a whole number, got 'big'"),
    "no finite number": (["x", "-m", "{tiny}", "--set", "keyframes.guidance_scale=nan"], "expected a number"),
    "no such sampler": (["x", "-m", "{tiny}", "--set", "keyframes.scheduler=euler"], "expected one of checkpoint"),
    "no interval": (["x", "-m", "{tiny}", "--set", "keyframes.guidance_interval=0.5"], "expected 2 numbers"),
    "no preset of this model": (["x", "--preset", "efficient"], "is for the published model"),
    "unknown preset": (["x", "--preset", "quick"], "the model 'mini' has no preset 'quick'"),
    "no first frame": (
        ["x", "-m", "{tiny}", "--set", "super_resolution.first_frame.noise_level=5"],
        "no network of its own for the first frame",
    ),
    "no such stage": (["x", "-m", "{tiny}", "--until", "end"], "--until"),
    "no draft": (["x", "-m", "{tiny}", "--count", "0"], "--count"),
    "negative seed": (["x", "-m", "{tiny}", "--seed", "-1"], "a seed must be a whole number"),
    "published drafts": (["x", "-m", "{tiny}", "--count", "2", "--numerics", "published"], "one video at a time"),
    "no such device": (["x", "-m", "{tiny}", "--device", "gpu"], "unknown device 'gpu'"),
    "unknown suffix": (["x", "-m", "{tiny}", "-o", "panda.mp5"], "the suffix '.mp5'"),
    "empty name": (["x", "-m", "{tiny}", "-o", " "], "the output path is empty"),
    "unfit codec": (["x", "-m", "{tiny}", "-o", "panda.mp4", "--codec", "vp9"], "does not fit in MP4"),
    "small for codec": (["x", "-m", "{tiny}", "-o", "panda.mp4", "--codec", "h265"], "at least 64 pixels"),
    "file as folder": (["x", "-m", "{tiny}", "-o", "/dev/null/panda.mp4"], "choose another folder"),
    "sheet suffix": (["x", "-m", "{tiny}", "--sheet", "sheet.mp4"], "contact sheet"),
    "missing video": (["--from", "nothing.mp4"], "no such file"),
    "unknown flag": (["x", "--frobnicate"], "--frobnicate"),
    "run in a file": (["x", "-m", "{tiny}", "--run", "/dev/null/run"], "cannot be made"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options(case: str, show1: Show1, cascade: Path, tmp_path: Path) -> None:
    options, message = BAD_OPTIONS[case]
    failed = show1("generate", *(option.format(tiny=cascade) for option in options))
    assert failed.code == 2, failed.err
    assert failed.err.startswith("show1: error: ") and message in failed.err
    assert failed.out == "" and "Traceback" not in failed.err
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_found_before_the_work(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    Path("panda-2.mp4").write_text("mine")
    failed = show1("generate", "x", "-m", "no-such-model", "--count", "2", "-o", "panda.mp4")
    assert failed.code == 2 and "panda-2.mp4 exists already" in failed.err and "--overwrite" in failed.err
    assert Path("panda-2.mp4").read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["panda-2.mp4"]


def test_unwritable_folder(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    failed = show1("generate", "x", "-m", cascade, "-o", "/sys/panda.mp4")  # where not even root may make a file
    assert failed.code == 2 and "no permission to write" in failed.err
    assert list(tmp_path.iterdir()) == []


def test_folder_with_other_files_is_no_run(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    Path("run").mkdir()
    Path("run/letter.txt").write_text("mine")
    failed = show1("generate", "x", "-m", cascade, "--run", "run")
    assert failed.code == 2 and "run is not empty" in failed.err
    assert [p.name for p in Path("run").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["inspect", "nothing.mp4"], "no such file"),
        (["inspect", "text.mp4"], "it is no video"),
        (["inspect", "foreign.mp4"], "holds no record"),
        (["inspect", "folder"], "no PNG or JPEG"),
        (["inspect", "damaged"], "is damaged"),
        (["generate", "--from", "foreign.mp4"], "only videos by show1 do"),
        (["generate", "--from", "text.mp4"], "it is no video"),
        (["resume", "nothing"], "there is no run folder"),
        (["resume", "folder"], "is no run folder"),
        (["resume", "text.mp4"], "there is no run folder"),
        (["resume", "damaged"], "is damaged"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_wrong_files(command: list[str], message: str, show1: Show1, tmp_path: Path) -> None:
    Path("text.mp4").write_text("no video")
    Video(frames=np.zeros((2, 16, 16, 3), np.uint8), fps=8).save("foreign.mp4")
    Path("folder").mkdir()
    Path("damaged").mkdir()
    Path("damaged/manifest.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    failed = show1(*command)
    assert failed.code == 2, failed.err
    assert message in failed.err and "Traceback" not in failed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_in_the_middle_and_the_resumption(show1: Show1, cascade: Path, whole: Path, tmp_path: Path) -> None:
    with largest_file(40_000):  # the last stage's artefact is larger
        failed = show1("generate", "a panda", "-m", cascade, "--seed", 1, "-o", "panda.mkv", "--run", "run")
    assert failed.code == 1 and "Traceback" not in failed.err
    assert "translation.safetensors cannot be written" in failed.err and "show1 resume run" in failed.err
    assert not Path("panda.mkv").exists() and not list(tmp_path.rglob("*.partial"))
    assert show1("resume", "run").code == 0
    assert (Video.load("panda.mkv").frames == Video.load(whole).frames).all()


def test_a_full_disk_at_the_end_loses_nothing(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    prompt = "a panda " * 4000  # the video holds it twice, the manifest once
    with largest_file(50_000):
        failed = show1("generate", prompt, "-m", cascade, "--until", "keyframes", "-o", "panda.mp4", "--run", "run")
    assert failed.code == 1 and "no room left on the disk" in failed.err and "show1 resume run" in failed.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]
    resumed = show1("resume", "run")
    assert resumed.code == 0 and resumed.out == "panda.mp4\n"
    assert "keyframes: done" not in resumed.err


def test_an_unusable_checkpoint_leaves_no_run(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(cascade, broken)
    weights = broken / "keyframes" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    failed = show1("generate", "a panda", "-m", broken)
    assert failed.code == 1 and str(weights) in failed.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken"]


def test_a_bug_is_told_without_a_traceback(show1: Show1, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av.library_versions", None)
    failed = show1("env")
    assert failed.code == 1 and "AttributeError: 'NoneType'" in failed.err
    assert "SHOW1_DEBUG=1" in failed.err and "Traceback" not in failed.err
    monkeypatch.setenv("SHOW1_DEBUG", "1")
    assert "Traceback" in show1("env").err


def test_help_starts_fast_without_torch() -> None:
    code = (
        "import sys; from show1.cli.main import main; code = main(['generate', '--help']); "
        "heavy = {'torch', 'numpy', 'av', 'diffusers', 'transformers'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "show1 generate --from panda.mp4" in done.stdout


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "import sys; from show1.cli.main import main; sys.exit(main(['generate', '--help']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 1 and done.stderr == ""


def test_foreign_text_cannot_steer_the_terminal(show1: Show1, tmp_path: Path) -> None:
    prompt = "\x1b]0;title\x07\x1b[2J\x9b31m\u202epanda\x7f\nseed 7"
    assert show1("generate", prompt, "-m", "no\x1b[2Jmodel").err == "show1: error: " + (
        "no model or folder 'no\\x1b[2Jmodel'; known models: mini, mini:fast, showlab/show-1\n"
    )
    record = {
        "prompt": prompt,
        "seed": 1,
        "stages": ["keyframes"],
        "settings": PUBLISHED.to_dict(),
        "model": {"name": "a\x1b[2J", "model": "mini", "sha256": 64 * "0"},
        "numerics": "default",
    }
    Video(frames=np.zeros((2, 16, 16, 3), np.uint8), fps=8, metadata=record).save("video.mkv")
    for options in ([], ["--json"]):
        shown = show1("inspect", "video.mkv", *options)
        assert shown.code == 0, shown.err
        assert not {c for c in shown.out if c != "\n" and not c.isprintable()}
    assert shown.json["metadata"]["prompt"] == prompt
    assert (
        "\\u001b]0;title" in show1("inspect", "video.mkv").out and "\nseed 7" not in show1("inspect", "video.mkv").out
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_a_generation_like_ctrl_c(number: int, code: int, show1: Show1, cascade: Path) -> None:
    before = signal.getsignal(number)
    with signalled_at("keyframes: done", number):
        stopped = show1("generate", "a panda", "-m", cascade, "--run", "run", "-o", "panda.mkv")
    assert stopped.code == code and signal.getsignal(number) is before
    assert stopped.err.endswith(
        f"show1: stopped: by {signal.Signals(number).name}\nWhat is finished is kept. To resume: show1 resume run\n"
    )
    assert not Path("panda.mkv").exists()


def test_a_signal_before_there_is_anything_to_keep(show1: Show1, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("show1.cli.generate.load_pipeline", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    stopped = show1("generate", "a panda")
    assert stopped.code == 143 and stopped.err == "show1: stopped: by SIGTERM\n"


def test_an_ignored_hangup_stays_ignored(show1: Show1, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        monkeypatch.setattr("show1.cli.env._processor", lambda: signal.raise_signal(signal.SIGHUP))
        assert show1("env").code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_shells_complete(show1: Show1, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SHOW1_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "show1 generate --until key")
    monkeypatch.setenv("COMP_CWORD", "3")
    completed = show1()
    assert completed.code == 0 and completed.out == "keyframes\n"


def test_a_script_ends_with_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise InputError("no such clip; name another")

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "show1: error: no such clip; name another\n"
