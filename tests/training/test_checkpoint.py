"""Checkpoints: nothing in them is ever run, damage is told, and a full disk loses nothing."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from show1.errors import Cancelled, OutputError, RunError
from show1.training.checkpoint import checkpoints, last_checkpoint
from tests.full_disk import largest_file
from tests.training.tiny_training import config, exported, run

FILES = ["model.safetensors", "averages.safetensors", "optimizer.bin", "checkpoint.json"]
FORMER_FILES = [
    "pytorch_model.bin",
    "optimizer.bin",
    "custom_checkpoint_0.pkl",
    "custom_checkpoint_1.pkl",
    "random_states_0.pkl",
]


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.file}'",)


def asked(folder: Path, **options: Any) -> Any:
    return config("vae", folder, **{"steps": 3, "checkpoint_every": 2, "keep_checkpoints": 2, **options})


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints at steps 2 and 3 of 4. Not to be changed: copy it first."""
    with pytest.MonkeyPatch.context() as patch:
        from tests.training import tiny_training

        tiny_training.install(patch.setitem)
        folder = tmp_path_factory.mktemp("stopped") / "run"
        answers = iter([False, False, True])
        with pytest.raises(Cancelled):
            run(asked(folder, steps=4), stop=lambda: next(answers))
    return folder


@pytest.fixture
def copied(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def turn_former(checkpoint: Path, processes: int = 1) -> None:
    """Rewrites a checkpoint as earlier versions wrote it, through accelerate."""
    step = int(checkpoint.name.removeprefix("step-"))
    model = load_file(checkpoint / "model.safetensors")
    averages = list(load_file(checkpoint / "averages.safetensors").values())
    order = [name for name in made_names() if name in model]
    by_name = load_file(checkpoint / "averages.safetensors")
    averages = [by_name[name] for name in order]
    state = torch.load(checkpoint / "optimizer.bin", weights_only=True)
    for name in ("model.safetensors", "averages.safetensors", "checkpoint.json"):
        (checkpoint / name).unlink()
    prefix = "module." if processes > 1 else ""
    torch.save({prefix + name: tensor for name, tensor in model.items()}, checkpoint / "pytorch_model.bin")
    torch.save(state["optimizer"], checkpoint / "optimizer.bin")
    schedule = {"base_lrs": [3e-3], "last_epoch": step, "_step_count": step + 1, "lr_lambdas": [None]}
    torch.save(schedule, checkpoint / "custom_checkpoint_0.pkl")
    ema = {"decay": 0.5, "min_decay": 0.0, "optimization_step": step, "shadow_params": averages}
    torch.save(ema, checkpoint / "custom_checkpoint_1.pkl")
    for process in range(processes):
        states = {"step": step, "numpy_random_seed": np.random.get_state(), "torch": torch.get_rng_state()}
        torch.save(states, checkpoint / f"random_states_{process}.pkl")


def made_names() -> list[str]:
    from tests.training.tiny_training import made

    return [name for name, _ in made(asked(Path("unused"))).named_parameters()]


def test_a_former_checkpoint_of_numbers_resumes(stopped: Path, copied: Path, tmp_path: Path) -> None:
    run(asked(tmp_path / "whole", steps=4))
    turn_former(copied / "checkpoints/step-3")
    run(asked(copied, steps=4))
    assert exported(copied) == exported(tmp_path / "whole")


@pytest.mark.parametrize("name", FORMER_FILES)
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_former_checkpoint_is_never_run(copied: Path, tmp_path: Path, name: str, protocol: int) -> None:
    turn_former(copied / "checkpoints/step-3")
    (copied / "checkpoints/step-3" / name).write_bytes(pickle.dumps(Trap(tmp_path / "ran"), protocol))
    with pytest.raises(RunError, match=f"step-3/{name} .*code in such files is never run.*go on from step-2"):
        run(asked(copied, steps=4))
    torch.save({"x": Trap(tmp_path / "ran")}, copied / "checkpoints/step-3" / name)
    with pytest.raises(RunError, match="code in such files is never run"):
        run(asked(copied, steps=4))
    assert not (tmp_path / "ran").exists()


def test_code_beside_a_checkpoint_is_not_even_read(copied: Path, tmp_path: Path) -> None:
    for name in FORMER_FILES[2:]:
        (copied / "checkpoints/step-3" / name).write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    run(asked(copied, steps=4))
    assert not (tmp_path / "ran").exists()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def replace_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replace_by_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("damage", [cut, flip, empty, Path.unlink, replace_by_folder, replace_by_pipe])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_told_with_the_file_and_a_way_on(copied: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(copied / "checkpoints/step-3" / name)
    with pytest.raises(RunError) as told:
        run(asked(copied, steps=4))
    assert f"step-3/{name} " in str(told.value)
    way_on = "; remove it" if damage is replace_by_pipe else f"; delete the folder {copied}/checkpoints/step-3 to"
    assert way_on in str(told.value)
    shutil.rmtree(copied / "checkpoints/step-3")
    run(asked(copied, steps=4))


@pytest.mark.parametrize("damage", [cut, empty, Path.unlink, replace_by_pipe])
@pytest.mark.parametrize("name", FORMER_FILES)
def test_damage_of_a_former_checkpoint_is_told(copied: Path, name: str, damage: Callable[[Path], None]) -> None:
    if (name, damage) in [("pytorch_model.bin", Path.unlink), ("random_states_0.pkl", Path.unlink)]:
        pytest.skip("then it is no former checkpoint, or one of no process")
    turn_former(copied / "checkpoints/step-3")
    damage(copied / "checkpoints/step-3" / name)
    with pytest.raises(RunError, match=f"step-3/{name} |of 0 processes"):
        run(asked(copied, steps=4))


def test_a_network_of_another_shape_is_told(copied: Path) -> None:
    checkpoint = copied / "checkpoints/step-3"
    turn_former(checkpoint)
    weights = torch.load(checkpoint / "pytorch_model.bin", weights_only=True)
    name = next(iter(weights))
    torch.save({**weights, name: torch.zeros(3)}, checkpoint / "pytorch_model.bin")
    with pytest.raises(RunError, match=r"does not fit the network.*is \[3\], and must be"):
        run(asked(copied, steps=4))


def test_another_number_of_processes_is_refused(copied: Path) -> None:
    turn_former(copied / "checkpoints/step-3", processes=2)
    with pytest.raises(RunError, match="a run of 2 processes, and now 1 would go on with other batches"):
        run(asked(copied, steps=4))


def test_checkpoints_are_kept_as_asked(copied: Path) -> None:
    assert [path.name for path in checkpoints(copied)] == ["step-2", "step-3"]
    (copied / "checkpoints/step-by-step").mkdir()
    run(asked(copied, steps=4))
    assert [path.name for path in checkpoints(copied)] == ["step-3", "step-4"]
    run(asked(copied, steps=5, keep_checkpoints=1))
    assert [path.name for path in checkpoints(copied)] == ["step-5"]


@pytest.mark.parametrize("room", [1000, 2_000_000])
def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path, room: int) -> None:
    run(asked(tmp_path, steps=2))
    before, sizes = exported(tmp_path), [file.stat().st_size for file in tmp_path.rglob("step-2/*")]
    assert max(sizes) > 2_000_000
    with largest_file(room):
        with pytest.raises(OutputError, match="step-4 cannot be written: File too large; .*before is kept"):
            run(asked(tmp_path, steps=4, log_every=100))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-2"]
    assert exported(tmp_path) == before


def test_a_full_disk_keeps_the_export_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    run(asked(tmp_path, steps=2))
    before = exported(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("diffusers.AutoencoderKL.save_pretrained", no_room)
        with pytest.raises(OutputError, match="export cannot be written: No space left.*the same command resumes"):
            run(asked(tmp_path, steps=4))
    assert exported(tmp_path) == before and not (tmp_path / ".unfinished-export").exists()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoints/step-4"
    run(asked(tmp_path, steps=4))
    assert exported(tmp_path) != before


@pytest.mark.parametrize("name", ["log.jsonl", "samples/step-0000004.png", "text_states/ab", "tensorboard/events"])
def test_a_training_folder_does_not_lead_out(copied: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").write_text("mine")
    file = copied / name
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    file.symlink_to(tmp_path / "mine")
    with pytest.raises(RunError, match=f"{name} is a link"):
        run(asked(copied, steps=4))
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("name", ["log.jsonl", "checkpoints/step-3/optimizer.bin", "config.json"])
def test_a_pipe_in_a_training_folder_is_not_opened(copied: Path, name: str) -> None:
    (copied / name).unlink(missing_ok=True)
    os.mkfifo(copied / name)
    with pytest.raises(RunError, match=name.rpartition("/")[2]):
        run(asked(copied, steps=4))
