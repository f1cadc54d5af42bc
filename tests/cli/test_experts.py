"""`--expert`: folders of the published layouts of latent video models in place of the translation."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from show1 import Show1Pipeline
from show1.checkpoints.expert_files import expert_in
from show1.checkpoints.hub import select_files
from show1.errors import CheckpointError
from show1.expert_table import EXPERTS, read_expert
from show1.generation.run import Run
from show1.stage_table import STAGE_TABLE
from show1.video import Video
from tests.cli.conftest import Show1, signalled_at
from tests.experts.tiny_experts import build_cogvideox, build_hunyuan, build_ltx, build_ltx2, build_wan

SMALL = [
    "--set",
    "translation.height=18",
    "--set",
    "translation.width=26",
    "--set",
    "translation.num_inference_steps=4",
]

OTHERS = {"cogvideox": build_cogvideox, "ltx": build_ltx, "ltx-2": build_ltx2, "hunyuan": build_hunyuan}


@pytest.fixture(scope="session", params=["wan", "wan-2.2-low-noise", *OTHERS])
def expert(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "expert"
    if request.param in OTHERS:
        return OTHERS[request.param](folder)
    return build_wan(folder, low_noise_only=request.param != "wan")


def test_a_video_by_an_expert_its_record_and_its_repetition(show1: Show1, cascade: Path, expert: Path) -> None:
    made = show1("generate", "a panda", "-m", cascade, "--expert", expert, *SMALL, "--seed", 3, "-o", "a.mkv", "--json")
    assert made.code == 0, made.err
    video = Video.load("a.mkv")
    assert video.frames.shape == (5, 18, 26, 3) and video.fps == 4
    row = read_expert(json.loads((expert / "model_index.json").read_text()), expert).row
    settings = video.metadata["settings"]["translation"]
    assert settings["level"] == row.settings["level"] and settings["guidance_scale"] == row.settings["guidance_scale"]
    assert video.metadata["model"]["model"]["translation"] == str(expert)
    files = Run.open(made.json["run"]).manifest.model.files
    network = "transformer_2" if "transformer" in row.unused else "transformer"
    assert f"translation/{network}/diffusion_pytorch_model.safetensors" in files
    used = {name.split("/")[1] for name in files if name.startswith("translation/")}
    assert {network, "vae", "text_encoder"} <= used and not used & set(row.unused)

    again = show1("generate", "--from", "a.mkv", "-o", "b.mkv", "--run", "again", "--quiet")
    assert again.code == 0, again.err
    first, second = (Run.open(run).load("translation") for run in (made.json["run"], "again"))
    assert torch.equal(first, second)


def test_the_files_of_an_expert_are_checked(show1: Show1, expert: Path, tmp_path: Path) -> None:
    for name in (f"translation={expert}", expert):
        sound = show1("models", "verify", name)
        assert sound.code == 0 and "all is well" in sound.out, sound.out
    broken = shutil.copytree(expert, tmp_path / "broken")
    file = next(broken.glob("transformer*/*.safetensors"))
    weights = load_file(file)
    weights.pop("proj_out.weight")
    save_file(weights, file, metadata={"format": "pt"})
    found = show1("models", "verify", f"translation={broken}", "--deep")
    assert found.code == 1 and "lacks proj_out.weight" in found.out
    shutil.rmtree(broken / "vae")
    missing = show1("generate", "x", "-m", f"translation={broken}", "--start-from", "translation", "--video", "a.mkv")
    assert missing.code != 0
    with pytest.raises(Exception, match=r"vae is missing; download the model again"):
        Show1Pipeline.from_pretrained({"translation": str(broken)})


def test_a_kill_loses_nothing(show1: Show1, cascade: Path, wan: Path) -> None:
    command = ["generate", "a panda", "-m", cascade, "--expert", wan, *SMALL, "--seed", 3]
    whole = show1(*command, "-o", "whole.mkv", "--run", "whole", "--quiet")
    assert whole.code == 0, whole.err
    with signalled_at("super_resolution: done"):
        stopped = show1(*command, "-o", "stopped.mkv", "--run", "stopped")
    assert stopped.code == 130 and "show1 resume stopped" in stopped.err
    assert Run.open("stopped").finished_stages == ("keyframes", "interpolation", "super_resolution")
    resumed = show1("resume", "stopped", "--quiet")
    assert resumed.code == 0 and resumed.out == "stopped.mkv\n", resumed.err
    assert torch.equal(Run.open("stopped").load("translation"), Run.open("whole").load("translation"))


REFUSED = {
    "level": (["--set", "translation.level=0.9"], "trained on noise levels up to 0.875, and translation.level 0.9"),
    "no level": (["--set", "translation.level=none"], "needs a noise level to start at; give translation.level"),
    "strength": (["--set", "translation.strength=0.5"], "translation.strength is for the cascade's own expert"),
    "max_timestep": (["--set", "translation.max_timestep=500"], "translation.max_timestep is for the cascade's own"),
    "scheduler": (["--set", "translation.scheduler=ddim"], "translation.scheduler is for the cascade's own expert"),
    "steps": (["--set", "translation.num_inference_steps=1"], "needs 2 steps or more in its whole schedule"),
    "range": (["--set", "translation.level=1.5"], "level must be more than 0, at most 1, got 1.5"),
    "twice": (["--from", "a.mkv"], "--expert makes another video than that of --from"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_expert_cannot_do_is_refused(
    show1: Show1, cascade: Path, tmp_path: Path, case: str, whole: Path
) -> None:
    folder = build_wan(tmp_path / "low", low_noise_only=True)
    shutil.copyfile(whole, "a.mkv")
    options, message = REFUSED[case]
    refused = show1("generate", "x", *(() if case == "twice" else ("-m", cascade)), "--expert", folder, *options)
    assert refused.code == 2 and message in refused.err, refused.err
    assert not Path("runs").exists()


def test_a_pipeline_of_no_family_is_refused_by_name(show1: Show1, cascade: Path, wan: Path, tmp_path: Path) -> None:
    other = shutil.copytree(wan, tmp_path / "other")
    index = json.loads((other / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps({**index, "_class_name": "MochiPipeline"}))
    refused = show1("generate", "x", "-m", cascade, "--expert", other)
    assert refused.code != 0 and "pipeline of the class 'MochiPipeline'" in refused.err and "WanPipeline" in refused.err
    (other / "model_index.json").write_text(json.dumps({**index, "vae": ["my_code", "AutoencoderKLWan"]}))
    refused = show1("generate", "x", "-m", cascade, "--expert", other)
    assert refused.code != 0 and "the library 'my_code' for vae" in refused.err


def test_the_cascades_own_expert_begins_at_a_level_too(show1: Show1, cascade: Path) -> None:
    made = show1(
        "generate", "x", "-m", cascade, "--set", "translation.level=0.5", "--seed", 1, "-o", "a.mkv", "--quiet"
    )
    assert made.code == 0, made.err
    assert Video.load("a.mkv").metadata["settings"]["translation"]["level"] == 0.5
    high = show1("generate", "x", "-m", cascade, "--set", "translation.level=0.95", "-o", "b.mkv")
    assert high.code == 2 and "trained on noise levels up to 0.893" in high.err


def test_each_prompt_may_tell_the_expert_something_of_its_own(cascade: Path, wan: Path) -> None:
    where = {**dict.fromkeys(("keyframes", "interpolation", "super_resolution"), str(cascade)), "translation": str(wan)}
    pipe = Show1Pipeline.from_pretrained(where)
    settings = {"translation": {"height": 16, "width": 16, "num_inference_steps": 2}}
    both = pipe(
        ["a cat", "a dog"], expert_prompt=["a cat, in fur", ""], seed=[1, 2], settings=settings, output_type="pt"
    )
    alone = pipe("a cat", seed=1, settings={"translation": {**settings["translation"], "prompt": "a cat, in fur"}})
    plain = pipe("a cat", seed=1, settings=settings, output_type="pt")
    assert abs(Video.from_tensor(both[0], fps=4).frames.astype(int) - alone.frames).max() <= 1
    assert not torch.equal(both[0], plain)
    torch.testing.assert_close(both[1], pipe("a dog", seed=2, settings=settings, output_type="pt"), atol=1e-4, rtol=0)


def test_a_saved_cascade_keeps_its_expert(cascade: Path, wan: Path, tmp_path: Path) -> None:
    where = {**dict.fromkeys(("keyframes", "interpolation", "super_resolution"), str(cascade)), "translation": str(wan)}
    pipe = Show1Pipeline.from_pretrained(where)
    settings = {"translation": {"height": 16, "width": 16, "num_inference_steps": 2}}
    pipe.save_pretrained(tmp_path / "saved", settings=settings)
    saved = Show1Pipeline.from_pretrained(tmp_path / "saved")
    assert saved.settings.translation.num_inference_steps == 2 and saved.settings.translation.level == 0.7
    asked = {"seed": 1, "output_type": "pt"}
    assert torch.equal(saved("a cat", **asked), pipe("a cat", settings=settings, **asked))


def test_of_wan_2_2_only_the_low_noise_network_is_fetched() -> None:
    index = {
        "_class_name": "WanPipeline",
        "boundary_ratio": 0.875,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    expert = read_expert(index, "Wan-AI/Wan2.2-T2V-A14B-Diffusers")
    assert expert.row is EXPERTS["wan-2.2-low-noise"]
    shards = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    files = [f"{name}/{file}" for name in ("transformer", "transformer_2") for file in (*shards, "config.json")]
    chosen = select_files(["model_index.json", *files], [c.name for c in expert.components], None)
    assert chosen == ["model_index.json", *(f"transformer_2/{name}" for name in ("config.json", *shards))]


CONFIGS = {
    "wan": ("WanPipeline", {"in_channels": 16}),
    "wan-2.2-5b": ("WanPipeline", {"in_channels": 48}),
    "fastwan": ("WanDMDPipeline", {"in_channels": 16}),
    "fastwan-5b": ("WanDMDPipeline", {"in_channels": 48}),
    "cogvideox": ("CogVideoXPipeline", {"patch_size_t": None}),
    "cogvideox-1.5": ("CogVideoXPipeline", {"patch_size_t": 2}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_versions_of_one_pipeline_are_told_apart_by_their_network(name: str, tmp_path: Path) -> None:
    pipeline, config = CONFIGS[name]
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    found = expert_in(STAGE_TABLE["translation"], tmp_path)
    assert found is not None and found.row is EXPERTS[name]
    without = read_expert({"_class_name": pipeline}, "somebody/model").row  # the Hub tells its network only later
    assert without is EXPERTS[name.removesuffix("-2.2-5b").removesuffix("-5b").removesuffix("-1.5")]


def test_a_distilled_wan_and_one_that_diffusers_cannot_run(show1: Show1, tmp_path: Path) -> None:
    folder = build_wan(tmp_path / "fast", pipeline="WanDMDPipeline")
    Video(frames=np.zeros((5, 16, 16, 3), dtype=np.uint8), fps=8.0).save("clip.mkv")
    command = ["refine", "clip.mkv", "-p", "a cat", "--expert", folder, "--seed", 1, "--quiet", "-o", "out.mkv"]
    command += ["--set", "translation.height=16", "--set", "translation.width=16"]
    made = show1(*command)
    assert made.code == 0, made.err
    settings = Video.load("out.mkv").metadata["settings"]["translation"]
    assert (settings["level"], settings["num_inference_steps"], settings["guidance_scale"]) == (0.757, 3, 1.0)
    refused = show1(*command, "--overwrite", "--set", "translation.num_inference_steps=4")
    assert refused.code == 2 and "was distilled to 3 steps, and translation.num_inference_steps is 4" in refused.err
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    sparse = {**load_file(weights), "blocks.0.to_gate_compress.weight": torch.zeros(2, 2)}
    save_file(sparse, weights, metadata={"format": "pt"})
    other = show1(*command, "--overwrite")
    assert other.code == 1 and "holds blocks.0.to_gate_compress.weight, which no WanTransformer3DModel" in other.err


def test_the_list_of_models_knows_experts(show1: Show1) -> None:
    rows = {row["name"]: row for row in show1("models", "list", "--json").json}
    assert rows["THUDM/CogVideoX-2b"]["about"].startswith("expert (cogvideox): 2 billion parameters")
    assert not rows["THUDM/CogVideoX-2b"]["on_disk"]
    refused = show1("models", "download", "THUDM/CogVideoX-2b")
    assert refused.code != 0 and "THUDM/CogVideoX-2b is not on this disk" in refused.err


def test_weights_of_eight_bits(show1: Show1, wan: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), dtype=np.uint8)
    Video(frames=frames, fps=8.0).save("clip.mkv")
    command = ["refine", "clip.mkv", "-p", "a cat", "--expert", wan, "--seed", 1, "--dtype", "float32", "--quiet"]
    for option in ("height=16", "width=16", "num_inference_steps=3"):
        command += ["--set", f"translation.{option}"]
    for weights in ("plain", "fp8"):
        out = show1(*command, "--set", f"translation.weights={weights}", "-o", f"{weights}.mkv", "--run", weights)
        assert out.code == 0, out.err
    stored = show1(*command, "--storage", "fp8", "-o", "stored.mkv", "--run", "stored")
    assert stored.code == 0 and Run.open("stored").manifest.storage == "fp8", stored.err
    plain, small = (Run.open(weights).load("translation") for weights in ("plain", "fp8"))
    assert 0 < (plain - small).abs().mean() < 0.5 * plain.std()
    assert Video.load("fp8.mkv").metadata["settings"]["translation"]["weights"] == "fp8"
    other = show1("refine", "clip.mkv", "-p", "a cat", "--set", "translation.weights=fp8")
    assert other.code == 2 and "translation.weights is for other experts (--expert); leave it out" in other.err


def test_a_config_that_names_code_runs_none(show1: Show1, wan: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(wan, tmp_path / "odd")
    file = folder / "text_encoder" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "_attn_implementation": "somebody/kernel", "auto_map": {"AutoModel": "x.Y"}}))
    assert show1("models", "verify", f"translation={folder}").code == 0
    pipe = Show1Pipeline.from_pretrained({"translation": str(folder)}, cache_embeddings=False)
    video = torch.zeros(3, 5, 16, 16)
    asked = {"start_from": "translation", "video": video, "settings": {"translation": {"height": 16, "width": 16}}}
    asked["settings"]["translation"]["num_inference_steps"] = 2
    assert len(pipe("a cat", **asked)) == 5
    file = folder / "transformer" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "quantization_config": {"quant_method": "x"}}))
    with pytest.raises(CheckpointError, match="holds quantization_config, which experts are not loaded with"):
        Show1Pipeline.from_pretrained({"translation": str(folder)})("a cat", **asked)


def test_an_expert_in_the_cache_of_the_hub(show1: Show1, wan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Path(os.environ["HF_HUB_CACHE"]) / "models--somebody--tiny-wan"
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(wan, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", os.environ["HF_HUB_CACHE"])
    assert show1("models", "verify", "somebody/tiny-wan").code == 0  # as the model that it is
    pipe = Show1Pipeline.from_pretrained({"translation": "somebody/tiny-wan"}, local_files_only=True)
    assert pipe.model_record.sources == {"translation": f"somebody/tiny-wan@{commit}"}
    assert pipe.settings.translation.level == 0.7


def test_a_table_of_prompts_tells_the_expert_something_of_its_own(show1: Show1, cascade: Path, wan: Path) -> None:
    Path("table.csv").write_text("prompt,expert_prompt\na cat,a cat in thick fur\na dog,\n")
    asked = ["--prompts", "table.csv", "-m", cascade, "--expert", wan, "--dry-run", "--json"]
    plans = [json.loads(line) for line in show1("generate", *asked).out.splitlines()]
    assert [plan["request"]["expert_prompts"] for plan in plans] == [["a cat in thick fur"], []]


def test_another_prompt_does_not_keep_what_the_expert_was_told(show1: Show1, cascade: Path) -> None:
    told = ["--set", "translation.prompt=a panda in thick fur"]
    assert show1("generate", "a panda", "-m", cascade, *told, "--seed", 1, "-o", "a.mkv", "--quiet").code == 0
    for words, prompt in ((["a car"], ""), ([], "a panda in thick fur"), (["a car", *told], "a panda in thick fur")):
        plan = show1("generate", *words, "--from", "a.mkv", "--dry-run", "--json")
        assert json.loads(plan.out)["request"]["settings"]["translation"]["prompt"] == prompt


def test_a_table_with_another_kind_of_value_names_its_line(show1: Show1, cascade: Path) -> None:
    Path("rows.jsonl").write_text('{"prompt": "a cat"}\n{"prompt": "a dog", "expert_prompt": 5}\n')
    made = show1("generate", "--prompts", "rows.jsonl", "-m", cascade)
    assert made.code == 2 and "line 2: expert_prompt must be text, got 5" in made.err


def test_the_alignment_of_an_expert_at_levels(show1: Show1, cascade: Path, wan: Path) -> None:
    asked = ("evaluate", "alignment", "-m", cascade, "--sets", "held_out", "--videos", 1, "--level", "0.3,0.6", *SMALL)
    judged = show1(*asked, "--expert", wan, "--out", "run", "--json")
    assert judged.code == 0, judged.err
    assert judged.json["sizes"]["translation-0.6"] == {"num_frames": 5, "height": 18, "width": 26}
    refused = show1(*asked, "--expert", wan, "--set", "translation.num_inference_steps=5", "--out", "run")
    assert refused.code == 2 and "other settings" in refused.err
    keyframes = show1("evaluate", "alignment", "-m", cascade, "--expert", wan, "--quick", "--out", "other")
    assert keyframes.code == 2 and "leave out --expert or --until" in keyframes.err
    twice = show1(*asked, "--set", "translation.level=0.5", "--out", "other")
    assert twice.code == 2 and "--set translation.level and --level say the same" in twice.err
    wrong = show1(*asked, "--set", "translation.steps=3", "--out", "other")
    assert wrong.code == 2 and "unknown option 'steps'" in wrong.err
