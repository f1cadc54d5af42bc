"""Presets of a cascade: `NAME:PRESET` stands for it with other networks and settings of some stages."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from show1.checkpoints.index import Notes, read_stage_notes, write_stage_notes
from show1.checkpoints.locate import embedded_folder, resolve
from show1.checkpoints.names import absolute_model
from show1.cli.main import main
from show1.errors import CheckpointError, InputError, ModelNotFoundError
from show1.generation.arguments import make_request
from show1.generation.pipeline import Show1Pipeline
from show1.generation.verify import verify
from show1.training.customization.config import CustomizationConfig

QUICK = {"keyframes": {"num_inference_steps": 2, "guidance_scale": 1.0}, "translation": {"strength": 0.1}}


@pytest.fixture
def cascade(tmp_path: Path) -> Path:
    """The embedded cascade with a preset `quick`, whose keyframes have a folder of their own."""
    folder = tmp_path / "cascade"
    shutil.copytree(embedded_folder(), folder)
    for component in ("unet", "scheduler"):
        shutil.copytree(folder / "keyframes" / component, folder / "keyframes_quick" / component)
    index = json.loads((folder / "show1.json").read_text())
    quick = {"stages": {"keyframes": "keyframes_quick"}, "settings": QUICK}
    index |= {"name": "own", "presets": {"quick": quick}}
    (folder / "show1.json").write_text(json.dumps(index))
    return folder


def test_a_preset_brings_its_networks_and_settings(cascade: Path) -> None:
    plain, quick = resolve(cascade), resolve(f"{cascade}:quick")
    assert (quick.name, quick.model) == ("own:quick", f"{cascade}:quick")
    assert quick.parts["keyframes"].path == cascade / "keyframes_quick"
    assert quick.parts["keyframes"].text == plain.parts["keyframes"].text == cascade / "keyframes"
    assert {name: part for name, part in quick.parts.items() if name != "keyframes"} == {
        name: part for name, part in plain.parts.items() if name != "keyframes"
    }
    assert quick.settings == plain.settings.replace(**QUICK)
    assert verify(f"{cascade}:quick") == []


def test_a_preset_can_be_a_part_of_a_mapping(cascade: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cascade.parent)
    mixed = resolve({"keyframes": "cascade:quick", "interpolation": "mini"})
    assert mixed.parts["keyframes"].path.resolve() == cascade / "keyframes_quick"
    assert mixed.settings.keyframes.num_inference_steps == 2
    assert resolve(mixed.model).settings == mixed.settings
    assert mixed.model == {"keyframes": f"{cascade}:quick", "interpolation": "mini"}


def test_a_saved_preset_is_a_cascade_of_its_own(cascade: Path, tmp_path: Path) -> None:
    Show1Pipeline.from_pretrained(f"{cascade}:quick").save_pretrained(tmp_path / "saved")
    saved = resolve(tmp_path / "saved")
    assert saved.settings == resolve(f"{cascade}:quick").settings
    assert (tmp_path / "saved" / "keyframes" / "text_encoder").is_dir()


def test_a_folder_with_a_colon_in_its_name_is_a_folder(cascade: Path) -> None:
    folder = cascade.rename(cascade.with_name("cascade:quick"))
    assert resolve(folder).settings == resolve("mini").settings


def test_a_folder_beside_does_not_hide_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini:fast").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("mini:fast").parts["keyframes"].path == embedded_folder() / "keyframes_fast"
    assert absolute_model("mini:fast") == "mini:fast"


def test_the_folder_of_a_preset_has_its_settings(cascade: Path) -> None:
    """Distillation and mappings take a stage's folder by itself."""
    alone = read_stage_notes(cascade / "keyframes_quick", "keyframes").settings["keyframes"]
    assert alone == resolve(f"{cascade}:quick").settings.keyframes.to_dict()
    mixed = resolve({"keyframes": cascade / "keyframes_quick", "interpolation": "mini"}, check=False)
    assert mixed.settings.keyframes.num_inference_steps == 2


def test_an_export_in_a_preset_samples_as_it_says(cascade: Path) -> None:
    """Settings: those of the preset, then those of its folders, then those of the cascade."""
    said = {"num_inference_steps": 4, "guidance_scale": 2.0, "time_grid": "checkpoint"}
    write_stage_notes(cascade / "keyframes_quick", "keyframes", Notes(settings={"keyframes": said}))
    quick = resolve(f"{cascade}:quick").settings.keyframes
    assert (quick.num_inference_steps, quick.guidance_scale, quick.time_grid) == (2, 1.0, "checkpoint")
    assert quick.num_frames == 8
    assert resolve(cascade).settings == resolve("mini").settings


def test_a_preset_on_the_hub_downloads_what_it_needs(cascade: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(repo: str, components: Sequence[str], *_: Any, extra: Sequence[str] = ()) -> tuple[Path, str]:
        asked.extend([*components, *extra])
        return cascade, f"{repo}@1"

    monkeypatch.setattr("show1.checkpoints.locate.fetch", fetch)
    found = resolve("someone/cascade:quick")
    assert (found.name, found.model) == ("someone/cascade:quick", "someone/cascade:quick")
    assert found.parts["keyframes"].source == "someone/cascade@1/keyframes_quick"
    assert {"keyframes_quick/unet", "keyframes/text_encoder", "keyframes_quick/stage.json"} <= set(asked)
    assert "keyframes/unet" not in asked
    (cascade / "show1.json").unlink()
    write_stage_notes(cascade, "keyframes", Notes())
    with pytest.raises(ModelNotFoundError, match="someone/cascade has no preset 'quick'"):
        resolve("someone/cascade:quick")


def test_a_customization_finds_its_model_from_anywhere(cascade: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cascade.parent)
    (cascade.parent / "clip.mp4").touch()
    config = CustomizationConfig(
        kind="motion", model="cascade:quick", video=("clip.mp4",), prompt=("a cat walks",), output="walk.safetensors"
    )
    assert config.model == f"{cascade}:quick"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("keyframes=mini", "name it where the parts are named, such as keyframes=mini:fast"),
        ("mini:fast", "--model mini:fast names a preset already; leave out --preset fast"),
    ],
)
def test_a_preset_is_for_one_cascade(model: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a cat", "--model", model, "--preset", "fast", "--dry-run"]) == 2
    assert said in capsys.readouterr().err


def test_unknown_presets_are_refused(cascade: Path, published: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="'own' has no preset 'slow'; its presets are quick"):
        resolve(f"{cascade}:slow")
    with pytest.raises(ModelNotFoundError, match="names two presets"):
        resolve(f"{cascade}:quick:quick")
    for model in (f"{published}:quick", "showlab/show-1:efficient"):
        with pytest.raises(ModelNotFoundError, match="those of the published model are published and efficient"):
            resolve(model)
    with pytest.raises(ModelNotFoundError, match="no model or folder 'nothing'"):
        resolve("nothing:quick")
    with pytest.raises(InputError, match="be named with a model that has it, such as mini:fast, got 'quick'"):
        make_request("a cat", model=Show1Pipeline.from_pretrained(cascade), preset="quick")


@pytest.mark.parametrize(
    ("presets", "said"),
    [
        (["quick"], "'presets' must map names to what they change"),
        ({"quick": "keyframes_quick"}, "'presets' must map names to what they change"),
        ({"quick": {"stages": {"keyframes": "../outside"}}}, "outside"),
        ({"quick": {"stages": {"sound": "keyframes_quick"}}}, "'sound'"),
        ({"quick": {"settings": {"keyframes": {"speed": 1}}}}, "the settings cannot be read"),
        ({"efficient": {}}, "a preset cannot be called 'efficient'"),
        ({"very quick": {}}, "a preset cannot be called 'very quick'"),
    ],
)
def test_damaged_presets_are_named(presets: object, said: str, cascade: Path) -> None:
    index = json.loads((cascade / "show1.json").read_text())
    (cascade / "show1.json").write_text(json.dumps({**index, "presets": presets}))
    with pytest.raises(CheckpointError, match=said):
        resolve(cascade)
