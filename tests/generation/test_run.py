"""Run folders: resuming after a kill at any moment, damaged artefacts, locks, drafts."""

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import show1.files
from show1.config import CascadeSettings, StageName
from show1.errors import InputError, OutputError, RunError
from show1.generation.arguments import make_request
from show1.generation.manifest import model_sha256
from show1.generation.metadata import VideoRecord
from show1.generation.output import OutputFile
from show1.generation.pipeline import Show1Pipeline
from show1.generation.progress import Callbacks
from show1.generation.request import GenerationRequest
from show1.generation.run import MANIFEST, Run
from tests.published_layout import small_changes
from tests.tiny_adapters import random_adapter

PROMPT = "a panda spins over the snow"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the child processes: sums round otherwise on another number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pipe(published: Path) -> Show1Pipeline:
    return Show1Pipeline.from_pretrained(published, memory="high", device="cpu")


def generate(pipe: Show1Pipeline, run: Any, **options: Any) -> Any:
    options = {"seed": 7, "settings": small_changes(), "until": "interpolation", **options}
    return pipe(options.pop("prompt", PROMPT), run=run, output_type="pt", **options)


@pytest.fixture(scope="module")
def expected(pipe: Show1Pipeline, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The artefacts of an undisturbed run of the whole cascade."""
    run = Run.create(tmp_path_factory.mktemp("run") / "whole")
    generate(pipe, run, until=None)
    return {stage: run.load(stage) for stage in run.finished_stages}


def die_at_file(name: str, when: str) -> None:
    """Kills this process before or after it moves a file into place; a manifest is named by what is new in it."""
    replace = os.replace

    def watched(source: Any, target: Any) -> None:
        written = {Path(target).name}
        if Path(target).name == MANIFEST:
            manifest = json.loads(Path(source).read_text())
            known = json.loads(Path(target).read_text()) if Path(target).exists() else {}
            written = {f"{MANIFEST}:{key}" for key in manifest if manifest[key] != known.get(key)}
            written |= {f"{MANIFEST}:{stage}" for stage in manifest["stages"] if stage not in known.get("stages", {})}
        if name in written and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if name in written:
            os.kill(os.getpid(), signal.SIGKILL)

    show1.files.os.replace = watched  # type: ignore[assignment]


def run_in_child(published: Path, run: Path, moment: tuple[Any, ...], until: StageName) -> None:
    """A generation that ends by SIGKILL at a moment: ("step", stage, n), ("file", name, when)."""
    torch.set_num_threads(1)
    pipe = Show1Pipeline.from_pretrained(published, memory="low", device="cpu", dtype="float32", cache_embeddings=False)

    def step(stage: StageName, done: int, total: int, _samples: torch.Tensor) -> None:
        if moment == ("step", stage, done):
            os.kill(os.getpid(), signal.SIGKILL)

    if moment[0] == "file":
        die_at_file(*moment[1:])
    generate(pipe, run, until=until, callbacks=Callbacks(on_step_end=step))


@pytest.fixture(scope="module")
def child(published: Path) -> Callable[..., Any]:
    context = multiprocessing.get_context("forkserver")
    text = [f"transformers.models.{m}" for m in ("t5.modeling_t5", "t5.tokenization_t5", "clip.modeling_clip")]
    context.set_forkserver_preload(["show1.generation.pipeline", "tests.published_layout", "pytest", *text])

    def start(run: Path, moment: tuple[Any, ...], until: StageName = "interpolation") -> Any:
        process = context.Process(target=run_in_child, args=(published, run, moment, until))
        process.start()
        return process

    return start


MOMENTS: list[tuple[Any, ...]] = [
    ("step", "interpolation", 1),
    ("file", f"{MANIFEST}:request", "after"),
    ("file", "keyframes.safetensors", "before"),
    ("file", "keyframes.safetensors", "after"),  # the artefact is there, the manifest does not know it
    ("file", f"{MANIFEST}:keyframes", "after"),
    ("file", f"{MANIFEST}:interpolation", "after"),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda m: "-".join(map(str, m)))
def test_a_killed_run_is_finished_bit_for_bit(
    child: Callable[..., Any],
    pipe: Show1Pipeline,
    expected: dict[str, torch.Tensor],
    tmp_path: Path,
    moment: tuple[Any, ...],
) -> None:
    process = child(tmp_path / "run", moment)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    (out,) = pipe.resume(tmp_path / "run", output_type="pt")
    run = Run.open(tmp_path / "run")
    assert run.finished
    assert torch.equal(out, expected["interpolation"][0])
    for stage in ("keyframes", "interpolation"):
        assert torch.equal(run.load(stage), expected[stage])
    assert not list((tmp_path / "run").glob(".*.partial"))


def test_a_run_killed_again_and_again_at_any_time(
    child: Callable[..., Any], pipe: Show1Pipeline, expected: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    folder, moments = tmp_path / "run", random.Random(5)
    for _ in range(2):
        process = child(folder, ("never",), "translation")
        while not (folder / MANIFEST).exists() and process.is_alive():
            time.sleep(0.01)
        process.join(moments.uniform(0.1, 1.5))
        process.kill()
        process.join()
        if Run.open(folder).request is None:  # it was killed before it began
            (folder / MANIFEST).unlink()
    if not (folder / MANIFEST).exists():
        generate(pipe, folder, until=None)
    pipe.resume(folder)
    run = Run.open(folder)
    assert run.finished_stages == tuple(expected)
    assert all(torch.equal(run.load(stage), video) for stage, video in expected.items())


@pytest.mark.parametrize("damage", ["truncated", "changed", "lost"])
def test_a_damaged_artefact_is_made_again(
    pipe: Show1Pipeline, expected: dict[str, torch.Tensor], tmp_path: Path, damage: str
) -> None:
    generate(pipe, tmp_path / "run")
    file = tmp_path / "run" / "keyframes.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    {"truncated": lambda: file.write_bytes(data[:100]), "changed": lambda: file.write_bytes(data), "lost": file.unlink}[
        damage
    ]()
    run = Run.open(tmp_path / "run")
    assert run.finished_stages == ("interpolation",)
    with pytest.raises(RunError, match="missing or damaged"):
        run.load("keyframes")
    pipe.resume(run)
    assert torch.equal(run.load("keyframes"), expected["keyframes"])


def test_every_quality_survives_a_save(tmp_path: Path) -> None:
    for quality in (0, 1, 100, None):
        output = OutputFile(path=str(tmp_path / "a.mp4"), quality=quality, overwrite=quality == 1)
        assert OutputFile.from_dict(output.to_dict()) == output
        assert Run.create(tmp_path / f"run-{quality}", output=output).path.is_dir()
        assert Run.open(tmp_path / f"run-{quality}").output == output


def test_finished_stages_are_not_computed_again(pipe: Show1Pipeline, tmp_path: Path) -> None:
    first = generate(pipe, tmp_path / "run")
    seen: list[str] = []
    again = generate(pipe, tmp_path / "run", callbacks=Callbacks(on_stage_start=seen.append))
    assert torch.equal(first, again)
    assert seen == []


def test_the_manifest_says_how_it_was_made(pipe: Show1Pipeline, tmp_path: Path) -> None:
    output = OutputFile(path="panda.mp4", quality=80)
    run = Run.create(tmp_path / "run", output=output)
    video = pipe(PROMPT, seed=3, settings=small_changes(), until="keyframes", run=run)
    record = json.loads((tmp_path / "run" / MANIFEST).read_text())
    assert record["request"]["prompts"] == [PROMPT]
    assert record["request"]["seeds"] == [3]
    assert CascadeSettings.from_dict(record["request"]["settings"]).keyframes.num_inference_steps == 3
    assert record["output"] == {"path": "panda.mp4", "options": {"quality": 80}}
    assert Run.open(run.path).output == output
    assert record["stages"]["keyframes"]["seconds"] > 0
    assert record["stages"]["keyframes"]["peak_memory_bytes"] > 10**7
    assert set(record["versions"]) == {"show1", "torch", "diffusers", "transformers", "python"}
    assert (record["device"], record["dtype"]) == ("cpu", "float32")
    assert record["threads"] == torch.get_num_threads() == 1
    weights = record["model"]["files"]["keyframes/unet/diffusion_pytorch_model.safetensors"]
    assert weights == show1.files.sha256(
        pipe.cascade.parts["keyframes"].path / "unet" / "diffusion_pytorch_model.safetensors"
    )
    assert video.metadata["model"]["sha256"] == record["model"]["sha256"]


def test_metadata_repeat_a_video(pipe: Show1Pipeline) -> None:
    video = pipe(PROMPT, settings=small_changes(), until="interpolation")
    metadata = json.loads(json.dumps(video.metadata))
    record = VideoRecord.from_metadata(metadata)
    (again,) = Show1Pipeline.from_pretrained(record.model.model, device="cpu").generate(record.to_request())
    assert (again.frames == video.frames).all()
    assert again.metadata == video.metadata


def test_metadata_that_cannot_be_repeated(pipe: Show1Pipeline) -> None:
    with pytest.raises(InputError, match="does not say how it was made"):
        VideoRecord.from_metadata({"prompt": "a"})
    keyframes = pipe(PROMPT, seed=1, settings=small_changes(), until="keyframes")
    video = pipe(
        PROMPT, seed=1, settings=small_changes(), start_from="interpolation", until="interpolation", video=keyframes
    )
    with pytest.raises(InputError, match="made from another video"):
        VideoRecord.from_metadata(video.metadata).to_request()


def test_a_folder_belongs_to_one_request(pipe: Show1Pipeline, tmp_path: Path) -> None:
    generate(pipe, tmp_path / "run", until="keyframes")
    for change, key in (
        ({"seed": 8}, "seeds"),
        ({"prompt": "a cat"}, "prompts"),
        ({"numerics": "published"}, "numerics"),
    ):
        with pytest.raises(RunError, match=f"with {key} .* instead of .*show1 resume"):
            generate(pipe, tmp_path / "run", **{"until": "keyframes", **change})


def test_a_run_records_the_settings_that_a_stage_was_computed_with(pipe: Show1Pipeline, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(pipe, tmp_path / "run", callbacks=Callbacks(on_step_end=stop))
    fewer = small_changes()
    fewer["keyframes"]["num_inference_steps"] += 1
    for _ in range(2):  # the second time it is finished
        generate(pipe, tmp_path / "run", settings=fewer, until="keyframes")
    known = Run.open(tmp_path / "run").begun_request
    assert known.stages == ("keyframes", "interpolation")
    assert known.settings.keyframes.num_inference_steps == fewer["keyframes"]["num_inference_steps"]
    with pytest.raises(RunError, match=r"with keyframes\.num_inference_steps"):
        generate(pipe, tmp_path / "run", until="keyframes")
    later = small_changes()
    later["keyframes"] = fewer["keyframes"]
    generate(pipe, tmp_path / "run", settings=later)
    later["interpolation"]["num_inference_steps"] += 1  # of a stage that is not asked for: what is computed stays
    generate(pipe, tmp_path / "run", settings=later, until="keyframes")
    assert Run.open(tmp_path / "run").finished


def test_a_whole_number_is_the_same_setting_as_a_float(pipe: Show1Pipeline, tmp_path: Path) -> None:
    settings = small_changes()
    for scale in (4.0, 4, 4.0):
        settings["keyframes"]["guidance_scale"] = scale
        generate(pipe, tmp_path / "run", settings=settings, until="keyframes")
    assert Run.open(tmp_path / "run").finished


def test_a_run_belongs_to_its_expert_prompt(pipe: Show1Pipeline, tmp_path: Path) -> None:
    generate(pipe, tmp_path / "run", until=None, expert_prompt="a panda in thick fur")
    generate(pipe, tmp_path / "run", until="interpolation", expert_prompt="a panda in thin fur")  # not computed with it
    with pytest.raises(RunError, match="with expert_prompts .*thick.* instead of .*thin"):
        generate(pipe, tmp_path / "run", until=None, expert_prompt="a panda in thin fur")


def test_the_frame_rate_of_a_run_that_has_computed_nothing_may_change(pipe: Show1Pipeline, tmp_path: Path) -> None:
    request = make_request(PROMPT, model=pipe, seed=1, settings=small_changes(), until="keyframes")
    pipe.begin(request, tmp_path / "run")
    (video,) = pipe.resume(tmp_path / "run", settings={"keyframes": {"fps": 4.0}})
    assert video.fps == 4.0
    with pytest.raises(RunError, match=r"with keyframes\.fps 4\.0 instead of 2\.0"):
        pipe.generate(request, tmp_path / "run")


def change_files(run: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Makes a run one of other weight files."""
    manifest = json.loads((run / MANIFEST).read_text())
    files = change(manifest["model"]["files"])
    manifest["model"] |= {"files": files, "sha256": model_sha256(files, [])}
    (run / MANIFEST).write_text(json.dumps(manifest))


def test_a_run_belongs_to_its_weights(pipe: Show1Pipeline, tmp_path: Path) -> None:
    generate(pipe, tmp_path / "run", until="keyframes")
    name = "keyframes/unet/diffusion_pytorch_model.safetensors"
    change_files(tmp_path / "run", lambda files: {**files, name: "0" * 64})
    with pytest.raises(RunError, match=f"made by other weights: {name} has changed"):
        pipe.resume(tmp_path / "run")


@pytest.mark.parametrize("change", ["gone", "new"])
def test_files_that_went_or_came_are_other_weights(pipe: Show1Pipeline, tmp_path: Path, change: str) -> None:
    generate(pipe, tmp_path / "run", until="keyframes")
    other = "keyframes/unet/diffusion_pytorch_model.fp16.safetensors"
    change_files(tmp_path / "run", lambda files: {**(files if change == "gone" else {}), other: "0" * 64})
    with pytest.raises(RunError, match="made by other weights"):
        pipe.resume(tmp_path / "run")


def test_memory_settings_may_change(pipe: Show1Pipeline, tmp_path: Path) -> None:
    changes = small_changes()
    generate(pipe, tmp_path / "run", until="keyframes", settings=changes)
    changes["keyframes"]["max_batch"] = 1
    generate(pipe, tmp_path / "run", until="keyframes", settings=changes)
    changes["keyframes"]["num_inference_steps"] += 1
    with pytest.raises(RunError, match=r"with keyframes.num_inference_steps \d+ instead of \d+"):
        generate(pipe, tmp_path / "run", until="keyframes", settings=changes)


def test_a_run_from_a_video_keeps_it(pipe: Show1Pipeline, expected: dict[str, torch.Tensor], tmp_path: Path) -> None:
    video = expected["keyframes"]
    begin = {"start_from": "interpolation", "video": video}
    generate(pipe, tmp_path / "run", **begin)
    (tmp_path / "run" / "interpolation.safetensors").unlink()
    pipe.resume(tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert torch.equal(run.load("interpolation"), expected["interpolation"])
    with pytest.raises(RunError, match="another video"):
        generate(pipe, tmp_path / "run", start_from="interpolation", video=video * 0.5)
    (tmp_path / "run" / "input.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"input.safetensors is missing or damaged"):
        pipe.resume(tmp_path / "run")


def test_one_draft_is_picked_and_carried_on(published: Path, tmp_path: Path) -> None:
    # in float64, whose rounding the artefacts do not show: what is left is whether a draft depends on its neighbours
    pipe = Show1Pipeline.from_pretrained(published, memory="high", device="cpu", dtype=torch.float64)
    changes = small_changes()
    changes["keyframes"]["num_frames"] = 2
    alone = generate(pipe, None, until="super_resolution", settings=changes)
    run = Run.create(tmp_path / "run")
    drafts = pipe(PROMPT, seed=5, count=3, settings=changes, until="keyframes", run=run)
    assert [d.metadata["seed"] for d in drafts] == [5, 6, 7]
    picked = run.pick(2, output=OutputFile(path="panda.mp4"))
    assert picked.path == tmp_path / "run" / "pick-3"
    assert picked.finished_stages == ("keyframes",)
    assert not picked.finished
    assert picked.request is not None
    assert picked.request.stages == pipe.stages
    (video,) = pipe.resume(picked)
    assert video.metadata["seed"] == 7
    assert torch.equal(picked.load("super_resolution")[0], alone)
    assert picked.manifest.model is not None
    files = picked.manifest.model.files
    assert {name.partition("/")[0] for name in files} >= set(pipe.stages)  # those of the later stages as well
    later = next(name for name in files if name.startswith("translation/unet"))
    change_files(picked.path, lambda files: {**files, later: "0" * 64})
    with pytest.raises(RunError, match=f"{later} has changed"):
        pipe.resume(picked.path)
    assert run.pick(2).finished
    with pytest.raises(RunError, match="holds another draft than 1"):
        run.pick(0, directory=picked.path)
    with pytest.raises(RunError, match=r"with keyframes\.num_inference_steps"):
        other = picked.request.settings.replace(keyframes={"num_inference_steps": 9})
        run.pick(2, request=picked.request.with_settings(other))
    for index in (3, -1):
        with pytest.raises(RunError, match="drafts 1 to 3"):
            run.pick(index)


def test_a_later_stage_of_a_finished_run_is_done_again_by_another_model(pipe: Show1Pipeline, tmp_path: Path) -> None:
    generate(pipe, tmp_path / "run", until="super_resolution")
    run = Run.open(tmp_path / "run")
    again = run.pick(0, directory=tmp_path / "again", request=run.request, keep=("keyframes", "interpolation"))
    assert again.finished_stages == ("keyframes", "interpolation")
    other = Show1Pipeline.from_pretrained(pipe.cascade.model, memory="high", device="cpu")
    file = random_adapter(other, stage="super_resolution").save(tmp_path / "walk.safetensors")
    other.adapters.load(file)
    other.resume(again)
    assert torch.equal(again.load("interpolation"), run.load("interpolation"))
    assert not torch.equal(again.load("super_resolution"), run.load("super_resolution"))
    assert [adapter.name for adapter in again.adapters] == ["walk"]
    with pytest.raises(RunError, match="no adapter"):  # from now on it belongs to this run
        pipe.resume(tmp_path / "again")
    other.adapters.load(random_adapter(other, seed=1).save(tmp_path / "run.safetensors"))
    with pytest.raises(RunError, match="now there is the adapters walk"):  # the keyframes were made without it
        other.resume(run.pick(0, directory=tmp_path / "third", keep=("keyframes",)))


def test_one_process_at_a_time(pipe: Show1Pipeline, tmp_path: Path) -> None:
    generate(pipe, tmp_path / "run", until="keyframes")
    with Run.open(tmp_path / "run"), pytest.raises(RunError, match="another process"):
        pipe.resume(tmp_path / "run")
    pipe.resume(tmp_path / "run")


def test_folders_that_are_no_runs(pipe: Show1Pipeline, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        Run.open(tmp_path / "absent")
    with pytest.raises(RunError, match=f"no {MANIFEST}"):
        Run.open(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    with pytest.raises(RunError, match=r"not empty \(it holds thesis.txt\); name another folder$"):
        generate(pipe, tmp_path / "full")
    fresh = Run.create(tmp_path / "fresh")
    with pytest.raises(RunError, match=r"or finish the run in it with `show1 resume .*fresh`"):
        Run.create(fresh.path)
    with pytest.raises(RunError, match="stopped before it began"):
        pipe.resume(fresh)
    for text in ("{", "[]", "{}", '{"format": 3}', '{"format": 2, "stages": []}'):
        (fresh.path / MANIFEST).write_text(text)
        with pytest.raises(RunError, match=MANIFEST):
            Run.open(fresh.path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        Run.create(tmp_path / "file" / "run")


def test_a_full_disk_leaves_no_part(pipe: Show1Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path / "run")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(OutputError, match=r"keyframes.safetensors cannot be written: No space left"):
            generate(pipe, run, until="keyframes")
    assert sorted(p.name for p in run.path.iterdir()) == [".lock", MANIFEST]
    pipe.resume(run)
    assert run.finished


def test_runs_are_named_by_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = Run.create(), Run.create()
    assert first.path != second.path
    assert first.path.parent == Path("runs")
    time.strptime(first.path.name[:15], "%Y%m%d-%H%M%S")


def test_a_request_survives_json(pipe: Show1Pipeline) -> None:
    request = GenerationRequest(
        prompts=("a", "b"), seeds=(1, 2), settings=pipe.settings, stages=("keyframes", "interpolation"), fps=2.0
    )
    assert GenerationRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request
