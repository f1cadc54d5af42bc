"""What a training starts from: text states computed ahead, and folders named as on the Hub."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from show1.checkpoints.locate import embedded_folder
from show1.errors import CheckpointError, InputError, ModelNotFoundError
from show1.sprites.clips import SpriteClips
from show1.sprites.options import TextOptions
from show1.training import TASKS, TrainingConfig
from show1.training.folders import on_this_disk
from show1.training.tasks.cached_text import CachedText
from show1.training.tasks.options import InterpolationOptions, KeyframesOptions, TranslationOptions
from show1.training.tasks.text_conditioner import TextConditioner
from show1.video import Video
from tests.training.tiny_training import Exports, config, losses, run


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for i, text in enumerate(["a cat spins", "a dog jumps", "a cat spins"]):
        Video.from_tensor(SpriteClips().clip(i, num_frames=29, height=16, width=16), fps=8.0).save(folder / f"{i}.mp4")
        (folder / f"{i}.txt").write_text(text)
    return folder


def test_states_computed_ahead_are_those_of_the_encoder(tmp_path: Path, exports: Exports) -> None:
    texts = ["a cat spins", "a dog jumps"]
    ahead = CachedText(exports["text"])
    ahead.compute(texts, tmp_path)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3  # with the empty one
    assert not ahead._encoder.loaded and not list(ahead.parameters())
    plain = TextConditioner.from_folder(exports["text"])
    assert (ahead.width, ahead.length) == (plain.width, plain.length)
    with torch.no_grad():
        torch.testing.assert_close(ahead([*texts, ""]), plain([*texts, ""]))
    assert not ahead._encoder.loaded


def test_a_training_without_its_text_encoder(
    tmp_path: Path, exports: Exports, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"data": str(clips), "text": str(exports["text"]), "val_share": 0.3}
    options["init"] = str(exports["keyframe_images"])
    run(config("keyframes", tmp_path / "plain", **options, steps=3))
    run(config("keyframes", tmp_path / "ahead", **options, steps=2, cache_text=True))
    monkeypatch.setattr("show1.text.encoder.load_text_encoder", None)  # not needed any more
    export = run(config("keyframes", tmp_path / "ahead", **options, steps=3, cache_text=True))
    found, wanted = (dict(losses(tmp_path / name)[:1]) for name in ("ahead", "plain"))
    assert found == pytest.approx(wanted, rel=1e-3)
    kept, frozen = (load_file(f / "text_encoder/model.safetensors") for f in (export, exports["text"]))
    assert all(torch.equal(kept[name], frozen[name]) for name in frozen)
    assert (export / "tokenizer/tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "cache_text: the text encoder would learn along"),
        ({"text": "text"}, "cache_text: sprites has no end"),
    ],
)
def test_texts_that_cannot_be_computed_ahead(
    tmp_path: Path, exports: Exports, options: dict[str, str], message: str
) -> None:
    options = {name: str(exports["text"]) for name in options}
    with pytest.raises(InputError, match=message):
        run(config("keyframe_images", tmp_path, cache_text=True, **options))


def test_the_negative_prompt_of_a_teacher_is_computed_ahead(
    tmp_path: Path, exports: Exports, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = shutil.copytree(exports["keyframes"], tmp_path / "teacher")
    notes = json.loads((teacher / "stage.json").read_text())
    notes["settings"] |= {"guidance_scale": 3.0, "negative_prompt": "a dog", "guidance_interval": [0, 1]}
    (teacher / "stage.json").write_text(json.dumps(notes))
    loaded: list[bool] = []
    forward = CachedText.forward

    def watched(self: CachedText, captions: list[str]) -> Any:
        states = forward(self, captions)
        loaded.append(self._encoder.loaded)
        return states

    monkeypatch.setattr(CachedText, "forward", watched)
    for text in clips.glob("*.txt"):
        text.write_text("a cat spins")
    options: dict[str, Any] = {"data": str(clips), "teacher": str(teacher), "cache_text": True}
    run(config("distil_keyframes", tmp_path / "run", **options, steps=1))
    assert loaded and not any(loaded)


def test_a_text_encoder_that_trainings_do_not_read_with_is_refused(published: Path) -> None:
    (clip,) = (file.parents[1] for file in published.rglob("vocab.json"))
    with pytest.raises(InputError, match="holds an encoder of the kind 'clip_text_model'.*with a T5"):
        CachedText(clip)
    with pytest.raises(InputError, match="trainings read prompts with a T5"):
        TextConditioner.from_folder(clip)


def test_names_of_the_hub_are_found(tmp_path: Path, exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, tuple[str, ...], bool]] = []
    copies = {
        "owner/images": shutil.copytree(exports["keyframe_images"], tmp_path / "snapshots/1"),
        "owner/text": shutil.copytree(exports["text"], tmp_path / "snapshots/2"),
    }

    def fetch(repo: str, components: tuple[str, ...], options: Any, *_: Any) -> tuple[Path, str]:
        asked.append((repo, components, options.local_files_only))
        return copies[repo], f"{repo}@1"

    monkeypatch.setattr("show1.training.folders.fetch", fetch)
    options: dict[str, Any] = {"init": "owner/images", "text": "owner/text"}
    run(config("keyframes", tmp_path / "run", **options, steps=1))
    saved = json.loads((tmp_path / "run/config.json").read_text())
    assert (saved["init"], saved["text"]) == ("owner/images", "owner/text")
    assert asked == [
        ("owner/images", ("unet", "scheduler"), False),
        ("owner/text", ("text_encoder", "tokenizer"), False),
    ]
    run(config("keyframes", tmp_path / "run", **options, steps=2))
    assert all(only_local for *_, only_local in asked[2:])  # a folder of a stranger contacts nobody


def test_a_name_that_is_nowhere_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: Any) -> None:
        raise ModelNotFoundError("owner/nothing is not on this disk, and the Hub cannot be reached")

    monkeypatch.setattr("show1.training.folders.fetch", fetch)
    with pytest.raises(InputError, match="init: there is no folder owner/nothing, .*the Hub cannot be reached"):
        run(config("keyframes", tmp_path, init="owner/nothing"))
    with pytest.raises(InputError, match="init: there is no folder nothing;"):
        run(config("keyframes", tmp_path, init="./nothing"))


def test_a_whole_model_stands_for_the_stage_in_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mini = embedded_folder()
    found = on_this_disk(TranslationOptions(init="mini", text="mini:fast", vae="mini"), tmp_path / "run")
    folders = [found.init, found.text, found.vae]
    assert folders == [str(mini / part) for part in ("translation", "keyframes", "translation")]
    for options, part in (
        (KeyframesOptions(init="mini:fast"), "keyframes_fast"),
        (KeyframesOptions(init=str(mini)), "keyframes"),
        (InterpolationOptions(init="mini"), "interpolation"),
        (TextOptions(init="mini"), "keyframes"),
    ):
        assert on_this_disk(options, tmp_path / "run").init == str(mini / part)
    layers = on_this_disk(KeyframesOptions(init="mini", temporal_init="mini:fast"), tmp_path / "run")
    assert layers.temporal_init == str(mini / "keyframes_fast")
    # the text encoder is that of the model, where the stage has none of its own
    assert on_this_disk(InterpolationOptions(init="mini"), tmp_path / "run").text == str(mini / "keyframes")
    assert on_this_disk(KeyframesOptions(init="mini"), tmp_path / "run").text is None  # learns along
    # a cascade of one's own, with its presets, wherever the run is resumed from; a folder called mini is no model
    monkeypatch.chdir(tmp_path)
    shutil.copytree(mini, tmp_path / "own")
    (tmp_path / "mini").mkdir()
    own = KeyframesOptions(init="own:fast", text="mini")
    assert own.init == f"{tmp_path / 'own'}:fast" and own.text == "mini"
    assert on_this_disk(own, tmp_path / "run").init == str(tmp_path / "own/keyframes_fast")
    out = tmp_path / "out"
    asked = {"task": "interpolation", "out": str(out), "data": "sprites", "init": "mini"}
    run(TrainingConfig.from_dict({**asked, "steps": 1, "batch_size": 1, "sample_every": 0}, TASKS))
    assert json.loads((out / "config.json").read_text())["init"] == "mini"


def test_the_published_model_stands_for_the_repository_of_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []

    def fetch(name: str, components: tuple[str, ...], _: Any) -> tuple[Path, str]:
        asked.append((name, components))
        return tmp_path, name

    monkeypatch.setattr("show1.training.folders.fetch", fetch)
    published = "showlab/show-1"
    on_this_disk(TranslationOptions(init=published, text=published, vae=published), tmp_path / "run")
    assert asked == [
        ("showlab/show-1-sr2", ("unet", "scheduler")),
        ("showlab/show-1-base", ("text_encoder", "tokenizer")),
        ("showlab/show-1-sr2", ("vae", "scheduler")),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "mini:slow"}, "init: the model 'mini' has no preset 'slow'"),
        ({"init": "minii"}, "init: there is no folder minii; did you mean 'mini'"),
        ({"init": "mini", "vae": "."}, "vae: .* holds no vae/; name the export of a vae training, or a model"),
    ],
)
def test_a_model_that_is_not_there_is_named_with_its_option(
    tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        on_this_disk(TranslationOptions(**{"vae": "mini", **options}), tmp_path / "run")


@pytest.mark.parametrize("option", ["init", "text", "vae"])
def test_links_out_of_a_folder_are_not_followed(tmp_path: Path, option: str) -> None:
    for name in ("init", "text", "vae", "elsewhere"):
        for component in ("unet", "vae", "scheduler", "text_encoder", "tokenizer"):
            (tmp_path / name / component).mkdir(parents=True)
            (tmp_path / name / component / "config.json").write_text("{}")
    inner = {"init": "unet", "text": "tokenizer", "vae": "vae"}[option]
    options = TranslationOptions(**{name: str(tmp_path / name) for name in ("init", "text", "vae")})
    assert on_this_disk(options, tmp_path / "run") == options
    file = tmp_path / option / inner / "config.json"
    for target in ("../../elsewhere/unet/config.json", "/dev/zero", "nowhere"):
        file.unlink()
        file.symlink_to(target)
        with pytest.raises(CheckpointError, match=f"{option}/{inner}/config.json is a link"):
            on_this_disk(options, tmp_path / "run")
    (tmp_path / "show1.json").write_text("{}")  # the stages of one model may share files
    file.unlink()
    file.symlink_to("../../elsewhere/unet/config.json")
    assert on_this_disk(options, tmp_path / "run") == options
