"""The sprite world in the benchmarks: its data set, its reader as feature network, and its protocol."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from show1.errors import InputError
from show1.evaluation.benchmark import run_benchmark
from show1.evaluation.benchmark_protocol import Metric, published_figures
from show1.evaluation.catalogue import STANDARD
from show1.evaluation.clips import ClipRule
from show1.evaluation.feature_networks import FeatureOptions
from show1.evaluation.folder_scores import score_folders
from show1.evaluation.probes import load_probes
from show1.generation.pipeline import Show1Pipeline
from show1.sprites.alignment.judge import SceneJudge
from show1.sprites.alignment.prompts import alignment_prompts
from show1.sprites.benchmark import CATALOGUE
from show1.video import Video
from tests.evaluation.standard_sets import small_protocol
from tests.published_layout import build_published, small_settings

ALIGNMENT = [CATALOGUE.parse_metric("alignment")]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOW1_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Show1Pipeline:
    """A tiny model of keyframes alone that makes 5 frames of 8x16."""
    from show1.checkpoints.convert import save_cascade
    from show1.checkpoints.locate import resolve

    folder = tmp_path_factory.mktemp("model")
    found = resolve(build_published(folder / "published", first_frame=False), stages=("keyframes",))
    settings = small_settings().replace(keyframes={"num_inference_steps": 1, "num_frames": 5})
    return Show1Pipeline.from_pretrained(save_cascade(replace(found, settings=settings), folder / "tiny"))


def test_the_protocol_is_frozen_and_whole() -> None:
    protocol = CATALOGUE.load_protocol("sprites")
    assert protocol.id == "8407a690b37562c6" and set(CATALOGUE.protocol_names) == {"sprites", *STANDARD.protocol_names}
    prompts = CATALOGUE.datasets["sprites"].list_prompts(protocol, [])
    assert len(prompts) == protocol.videos == 256 and prompts[:128] == prompts[128:]
    assert published_figures("sprites") == []
    assert CATALOGUE.load_protocol("vbench") == STANDARD.load_protocol("vbench")


def test_evaluation_alone_knows_nothing_of_it() -> None:
    with pytest.raises(InputError, match="no protocol 'sprites'"):
        STANDARD.load_protocol("sprites")
    with pytest.raises(InputError, match="no metric 'alignment'"):
        STANDARD.parse_metric("alignment")
    with pytest.raises(InputError, match="alignment:sprite-reader: no such judge of alignment"):
        load_probes(ALIGNMENT, FeatureOptions(), STANDARD.networks)


def test_sprites_need_no_files(pipe: Show1Pipeline, tmp_path: Path) -> None:
    protocol = replace(CATALOGUE.load_protocol("sprites"), frames=5, height=40, width=64, references=4)
    report = run_benchmark(pipe, protocol, tmp_path / "out", videos=3, resamples=0, catalogue=CATALOGUE)
    assert report["references"]["used"] == 4 and report["references"]["rejected"] == []
    distances, shares = report["figures"][:3], report["figures"][3:]
    assert [f["dimension"] for f in distances] == [320, 160, 320]
    assert all(f["value"] > 0 for f in distances) and report["published"] == []
    assert [f["criterion"] for f in shares] == ["subject", "background", "motion", "all three", "stable"]
    assert all(f["generated"] == 3 and f["low"] <= f["value"] <= f["high"] for f in shares)
    assert "| alignment:all three (higher is better) |" in (tmp_path / "out" / "report.md").read_text()


def test_alignment_of_videos_made_elsewhere(tmp_path: Path) -> None:
    captions = []
    for i, (prompt, shown) in enumerate(zip(alignment_prompts()[:4], (0, 1, 2, 5), strict=True)):  # the last is wrong
        video = SceneJudge.truth(alignment_prompts()[shown], seed=0, num_frames=8, height=80, width=128)
        Video.from_tensor(video, fps=2).save(tmp_path / f"{i}.mkv")
        captions.append({"file": f"{i}.mkv", "caption": prompt.prompt})
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, captions)))
    rule = ClipRule(frames=8)
    found = score_folders(None, tmp_path, ALIGNMENT, rule=rule, catalogue=CATALOGUE)["figures"]
    right = {f["criterion"]: f["value"] for f in found}
    assert right["subject"] == right["all three"] == 0.75 and right["stable"] == 1.0

    # whole videos: half of a way is no motion
    whole = score_folders(None, tmp_path, ALIGNMENT, rule=ClipRule(frames=None), catalogue=CATALOGUE)["figures"]
    assert [f["value"] for f in whole] == [f["value"] for f in found]

    captions[0]["caption"] = "a dog runs"
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, captions)))
    with pytest.raises(InputError, match="'a dog runs' does not name one subject"):
        score_folders(None, tmp_path, ALIGNMENT, rule=rule, catalogue=CATALOGUE)


def test_frame_folders_have_captions_and_damaged_files_are_left_out(tmp_path: Path) -> None:
    metrics, rule = ALIGNMENT, ClipRule(frames=None)
    asked = alignment_prompts()[0]
    video = Video.from_tensor(SceneJudge.truth(asked, seed=0, num_frames=8, height=80, width=128), fps=2)
    made, folders = tmp_path / "made", tmp_path / "folders"
    record = {"prompt": asked.prompt}
    Video(frames=video.frames, fps=2.0, metadata=record).save(made / "a.mkv")
    (made / "b.mkv").write_bytes((made / "a.mkv").read_bytes()[:900])
    found = score_folders(None, made, metrics, rule=rule, catalogue=CATALOGUE)
    assert found["generated"]["used"] == 1 and found["generated"]["rejected"][0]["key"] == "b.mkv"
    assert found["figures"][0]["value"] == 1.0

    (folders / "one").mkdir(parents=True)
    for i, frame in enumerate(video.frames):
        Image.fromarray(frame).save(folders / "one" / f"{i:02d}.png")
    (folders / "captions.jsonl").write_text(json.dumps({"file": "one", "caption": asked.prompt}))
    assert score_folders(None, folders, metrics, rule=rule, catalogue=CATALOGUE)["figures"][3]["value"] == 1.0


def test_troubles_come_before_the_work(pipe: Show1Pipeline, tmp_path: Path) -> None:
    out = tmp_path / "out"
    groups = small_protocol(dataset="prompts", prompts="all", prompt_file=None, metrics=tuple(ALIGNMENT))
    (tmp_path / "prompts.txt").write_text("two cats over the sea\n")
    with pytest.raises(InputError, match="two cats over the sea"):
        run_benchmark(pipe, groups, out, data=tmp_path / "prompts.txt", catalogue=CATALOGUE)
    broken = small_protocol(dataset="sprites", prompts="all", prompt_file=str(tmp_path / "prompts.txt"))
    with pytest.raises(InputError, match="prompts.txt, line 1 is not JSON"):
        run_benchmark(pipe, broken, out, catalogue=CATALOGUE)
    inception = Metric(name="is", network="sprite-reader")
    with pytest.raises(InputError, match="is:sprite-reader: the network sprite-reader serves fvd, fid-vid, kvd"):
        load_probes([inception], FeatureOptions(), CATALOGUE.networks)
    assert not (out / "videos").exists()
