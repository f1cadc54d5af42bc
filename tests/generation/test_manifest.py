"""Manifests: checked as a whole when they are read, those of earlier versions too, and runs that get more stages."""

import copy
import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from show1.cli.main import main
from show1.config import PUBLISHED
from show1.errors import InputError, RunError
from show1.generation.arguments import make_request
from show1.generation.metadata import VideoRecord
from show1.generation.output import OutputFile
from show1.generation.pipeline import Show1Pipeline
from show1.generation.progress import Callbacks
from show1.generation.request import GenerationRequest
from show1.generation.run import MANIFEST, Run
from tests.published_layout import small_changes

PROMPT = "a panda spins over the snow"


@pytest.fixture(scope="module")
def pipe(published: Path) -> Show1Pipeline:
    return Show1Pipeline.from_pretrained(published, memory="high", device="cpu")


@pytest.fixture(scope="module")
def finished(pipe: Show1Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two stages. Not to be changed: copy it first."""
    folder = tmp_path_factory.mktemp("runs")
    run = Run.create(folder / "finished", output=OutputFile(path=str(folder / "a.mkv"), quality=50))
    pipe(PROMPT, seed=7, settings=small_changes(), until="interpolation", run=run)
    return run.path


def copied(run: Path, folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    """A copy of a run with changes in its manifest."""
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(run, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def half_finish(manifest: dict[str, Any]) -> None:
    del manifest["stages"]["interpolation"]


def as_of_1832732(manifest: dict[str, Any]) -> None:
    """The form of the first versions: `seeding`, no hashes of requests, null for what there is not."""
    manifest["format"] = 1
    request = manifest["request"]
    request["seeding"] = {"default": "independent", "published": "published"}[request.pop("numerics")]
    for record in manifest["stages"].values():
        del record["request_sha256"]
    manifest.setdefault("output", None)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


DELETE = object()
MUTATIONS: list[Any] = [
    DELETE, None, True, 0, -1, 10**30, -(10**30), 1e300, 0.5, math.nan, math.inf, "", " ", "upscaling", "keyframes",
    "0" * 64, "\0", [], [[[]]], ["keyframes", "upscaling"], {}, {"keyframes": {"keyframes": None}},
]  # fmt: skip


def mutate(manifest: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    """Replaces or deletes one value."""
    parent: Any = manifest
    for key in path[:-1]:
        parent = parent[key]
    if value is DELETE:
        del parent[path[-1]]
    else:
        parent[path[-1]] = copy.deepcopy(value)


@pytest.mark.parametrize("state", ["finished", "half"])
def test_one_wrong_value_gives_a_run_error_or_a_right_run(
    pipe: Show1Pipeline, finished: Path, tmp_path: Path, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """150 mutations of each manifest: opened, shown, resumed."""
    source = finished if state == "finished" else copied(finished, tmp_path / "half", half_finish)
    expected = Run.open(finished).load("interpolation")
    known = json.loads((source / MANIFEST).read_text())
    rng = random.Random(state)
    refused = 0
    for _ in range(150):
        path, value = rng.choice(list(places(known))), rng.choice(MUTATIONS)
        run = copied(source, tmp_path / "run", lambda manifest, p=path, v=value: mutate(manifest, p, v))  # type: ignore[misc]
        said = f"{path} = {'deleted' if value is DELETE else value}"
        code = main(["inspect", str(run)])
        try:
            opened = Run.open(run)
            assert opened.finished in (True, False)
            (out,) = pipe.resume(run, output_type="pt")
        except RunError:
            refused += 1
            continue
        except Exception as error:
            raise AssertionError(f"{said}: {type(error).__name__}: {error}") from error
        assert code == 0, f"{said}: {capsys.readouterr().err}"
        if _is_of_a_stage_to_come(path, state):
            assert out.isfinite().any(), said
        elif opened.request is not None and opened.request.stages == ("keyframes", "interpolation"):
            assert torch.equal(out, expected[0]), said
    assert 75 < refused < 150


def _is_of_a_stage_to_come(path: tuple[Any, ...], state: str) -> bool:
    return state == "half" and path[:3] == ("request", "settings", "interpolation")


@pytest.mark.parametrize("change", [lambda m: None, half_finish], ids=["finished", "half"])
def test_a_run_of_the_first_versions_is_resumed(
    pipe: Show1Pipeline, finished: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    def older(manifest: dict[str, Any]) -> None:
        change(manifest)
        as_of_1832732(manifest)

    run = copied(finished, tmp_path / "run", older)
    request = Run.open(run).request
    assert request is not None and request.numerics == "default"
    (out,) = pipe.resume(run, output_type="pt")
    assert torch.equal(out, Run.open(finished).load("interpolation")[0])
    with pytest.raises(RunError, match="with keyframes.num_inference_steps"):
        pipe(PROMPT, seed=7, settings=changed("keyframes"), until="interpolation", run=run)


@pytest.mark.parametrize("whole", [True, False])
def test_artefacts_say_what_they_were_computed_for(
    pipe: Show1Pipeline, finished: Path, tmp_path: Path, whole: bool
) -> None:
    """A request that was changed, or taken out, does not become the truth of finished stages."""

    def forge(manifest: dict[str, Any]) -> None:
        manifest["request"]["prompts"] = ["another prompt"]
        if whole:
            del manifest["stages"]["keyframes"]["request_sha256"]
        else:
            del manifest["request"], manifest["model"]

    run = copied(finished, tmp_path / "run", forge)
    if whole:
        with pytest.raises(RunError, match=r"does not say what keyframes\.safetensors was computed for"):
            Run.open(run)
        return
    pipe("another prompt", seed=7, settings=small_changes(), until="interpolation", run=run)
    again = pipe("another prompt", seed=7, settings=small_changes(), until="interpolation", output_type="pt")
    assert torch.equal(Run.open(run).load("interpolation")[0], again)


def test_a_manifest_as_it_was_written_is_read() -> None:
    """Word for word by an early version, with `mini`; its artefacts are not kept."""
    run = Run.open(Path(__file__).parent / "run_of_1832732")
    assert run.request is not None and run.request.seeds == (1, 2) and run.request.numerics == "default"
    assert run.model == "mini"
    assert run.manifest.stages["keyframes"].request_sha256 == run.request.stage_sha256("keyframes")
    assert run.output == OutputFile(path="/videos/panda.mkv")
    assert not run.finished and run.next_stage == "keyframes"


def test_metadata_of_the_first_versions_are_read(pipe: Show1Pipeline) -> None:
    video = pipe(PROMPT, seed=1, settings=small_changes(), until="keyframes")
    older = {**video.metadata, "seeding": "independent"}
    del older["numerics"]
    assert VideoRecord.from_metadata(older) == VideoRecord.from_metadata(video.metadata)


def changed(stage: str) -> dict[str, Any]:
    changes = small_changes()
    changes[stage]["num_inference_steps"] += 1
    return changes


def test_a_run_gets_more_stages(pipe: Show1Pipeline, finished: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"seed": 7, "settings": small_changes(), "run": tmp_path / "run"}
    pipe(PROMPT, until="keyframes", **options)
    seen: list[str] = []
    pipe(PROMPT, until="interpolation", callbacks=Callbacks(on_stage_start=seen.append), **options)
    assert seen == ["text", "interpolation"]
    run = Run.open(tmp_path / "run")
    assert run.finished_stages == ("keyframes", "interpolation")
    assert torch.equal(run.load("interpolation"), Run.open(finished).load("interpolation"))
    assert run.manifest.model is not None
    assert {name.partition("/")[0] for name in run.manifest.model.files} == {"keyframes", "interpolation"}
    (again,) = pipe([PROMPT], until="keyframes", **options)  # what it has already
    assert len(again) == 3 and Run.open(run.path).request == run.request


def test_only_settings_of_stages_to_come_may_change(pipe: Show1Pipeline, tmp_path: Path) -> None:
    run, options = tmp_path / "run", {"seed": 7, "until": "interpolation"}
    pipe(PROMPT, seed=7, settings=small_changes(), until="keyframes", run=run)
    with pytest.raises(RunError, match="with keyframes.num_inference_steps"):
        pipe(PROMPT, settings=changed("keyframes"), run=run, **options)  # type: ignore[call-overload]
    with pytest.raises(RunError, match="with clean_prompt"):
        pipe(PROMPT, settings={**small_changes(), "clean_prompt": "none"}, run=run, **options)  # type: ignore[call-overload]
    pipe(PROMPT, settings=changed("interpolation"), run=run, **options)  # type: ignore[call-overload]
    request = Run.open(run).request
    assert request is not None and request.settings.interpolation.num_inference_steps == 3
    with pytest.raises(RunError, match="with interpolation.num_inference_steps 3 instead of 2"):
        pipe(PROMPT, settings=small_changes(), run=run, **options)  # type: ignore[call-overload]


def test_a_changed_request_in_the_manifest_is_found(finished: Path, tmp_path: Path) -> None:
    for path, value in (
        (("request", "prompts", 0), "a cat"),
        (("request", "seeds", 0), 8),
        (("request", "settings", "keyframes", "guidance_scale"), 2.0),
    ):
        run = copied(finished, tmp_path / "run", lambda m, p=path, v=value: mutate(m, p, v))  # type: ignore[misc]
        with pytest.raises(RunError, match="computed for another request"):
            Run.open(run)


def test_one_stage_after_another(pipe: Show1Pipeline, finished: Path, tmp_path: Path) -> None:
    request = make_request(PROMPT, model=pipe, seed=7, settings=small_changes(), until="interpolation")
    run = pipe.begin(GenerationRequest.from_dict(json.loads(json.dumps(request.to_dict()))), tmp_path / "run")
    assert run.next_stage == "keyframes"
    first = pipe.advance(run)
    assert first is not None and first.stage == "keyframes" and first.path == run.path / "keyframes.safetensors"
    assert first.sha256 == Run.open(finished).manifest.stages["keyframes"].sha256 and (first.seconds or 0) > 0
    assert Run.open(run.path).finished_stages == ("keyframes",) and Run.open(run.path).request == request
    second = pipe.advance(run.path)
    assert second is not None and second.stage == "interpolation"
    assert pipe.advance(run) is None
    assert torch.equal(Run.open(run.path).load("interpolation"), Run.open(finished).load("interpolation"))
    with pytest.raises(RunError, match="there is no run folder"):
        pipe.advance(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_the_hash_of_a_stage_s_request() -> None:
    request = GenerationRequest(
        prompts=(PROMPT,), seeds=(1,), settings=PUBLISHED, stages=("keyframes", "interpolation"), fps=2.0
    )
    for changes, stages in (
        ({"interpolation": {"guidance_scale": 1.0}}, {"interpolation"}),
        ({"keyframes": {"guidance_scale": 1.0}}, {"keyframes", "interpolation"}),
        ({"keyframes": {"max_batch": 1}}, set()),
        ({"translation": {"strength": 0.1}}, set()),
        ({"clean_prompt": "none"}, {"keyframes", "interpolation"}),
    ):
        other = GenerationRequest.from_dict({**request.to_dict(), "settings": PUBLISHED.replace(**changes).to_dict()})
        assert {s for s in request.stages if request.stage_sha256(s) != other.stage_sha256(s)} == stages
    # run folders keep it: it must not change
    assert request.stage_sha256("keyframes") == "fb83b0de93dfbc92c25ebb0e900895bb645947ea93e29a8d88d7d7100d32519f"


@pytest.mark.parametrize(
    "change",
    [
        {"prompts": []}, {"prompts": "a"}, {"prompts": [1]}, {"prompts": [" "]}, {"seeds": [1, 2]}, {"seeds": [1.5]},
        {"seeds": [-1]}, {"seeds": [2**63]}, {"stages": []}, {"stages": ["interpolation", "keyframes"]},
        {"stages": ["upscaling"]}, {"fps": 0}, {"fps": math.nan}, {"fps": 3.0}, {"fps": None}, {"numerics": "lucky"},
        {"settings": {}}, {"settings": None}, {"settings": {**PUBLISHED.to_dict(), "clean_prompt": "upper"}},
        {"settings": {**PUBLISHED.to_dict(), "max_text_tokens": 1}}, {"speed": 3},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_request_is_refused(change: dict[str, Any]) -> None:
    sound = GenerationRequest(prompts=("a",), seeds=(1,), settings=PUBLISHED, stages=("keyframes",), fps=2.0)
    with pytest.raises(InputError):
        GenerationRequest.from_dict({**sound.to_dict(), **change})
