"""Benchmarks from videos to report: folders made elsewhere, and a tiny cascade on synthetic data sets."""

import dataclasses
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from show1.errors import CheckpointError, InputError, ModelNotFoundError, RunError
from show1.evaluation.benchmark import run_benchmark, work_items
from show1.evaluation.benchmark_protocol import Metric
from show1.evaluation.benchmark_report import distance_plot
from show1.evaluation.catalogue import STANDARD
from show1.evaluation.clip_score import ClipScore
from show1.evaluation.clips import ClipRule, file_clips
from show1.evaluation.datasets import DATASETS, read_ucf101
from show1.evaluation.feature_cache import clip_features
from show1.evaluation.feature_networks import NETWORKS, FeatureOptions
from show1.evaluation.folder_scores import score_folders
from show1.evaluation.probes import Probe
from show1.generation.pipeline import Show1Pipeline
from show1.video import Video
from tests.evaluation.standard_sets import TinyC3D, TinyI3D, msrvtt, save_network, small_protocol, ucf101, write_clip
from tests.published_layout import build_published, small_settings

FVD = Metric(name="fvd", network="i3d-stylegan-v")
KVD = Metric(name="kvd", network="i3d-stylegan-v")


@pytest.fixture(scope="module", autouse=True)
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureOptions]:
    """Random networks in the place of the published ones."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    save_network(TinyI3D(), folder / "i3d_torchscript.pt")
    save_network(TinyC3D(), folder / "c3d_ucf101.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOW1_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name, changes in (("i3d-stylegan-v", {"min_frames": 4}), ("c3d-ucf101", {"min_frames": 4})):
            patch.setitem(NETWORKS, name, replace(NETWORKS[name], sha256=None, **changes))  # type: ignore[arg-type]
        yield FeatureOptions(folder=folder, local_files_only=True)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Show1Pipeline:
    """A tiny model of keyframes alone that makes 5 frames of 8x16."""
    from show1.checkpoints.convert import save_cascade
    from show1.checkpoints.locate import resolve

    folder = tmp_path_factory.mktemp("model")
    found = resolve(build_published(folder / "published", first_frame=False), stages=("keyframes",))
    settings = small_settings().replace(keyframes={"num_inference_steps": 1, "num_frames": 5})
    return Show1Pipeline.from_pretrained(save_cascade(replace(found, settings=settings), folder / "tiny"))


@pytest.fixture(scope="module")
def ucf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ucf101(tmp_path_factory.mktemp("ucf"))


def folder_of(folder: Path, count: int = 5, **changes: Any) -> Path:
    for i in range(count):
        write_clip(folder / f"{i}.mkv", seed=i, **changes)
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("real"))


def fvd(real: Path, fake: Path, options: FeatureOptions, **rule: Any) -> dict[str, Any]:
    result = score_folders(real, fake, [FVD], rule=ClipRule(**{"frames": 4, **rule}), options=options, resamples=0)
    return result["figures"][0]  # type: ignore[no-any-return]


def test_a_folder_against_itself_is_zero(real: Path, tmp_path: Path, options: FeatureOptions) -> None:
    result = score_folders(real, real, [FVD, KVD], rule=ClipRule(frames=4), options=options, resamples=3)
    distance, kernel = result["figures"]
    assert abs(distance["value"]) < 1e-6 and distance["low"] <= 1e-6 and kernel["value"] < 1e-6
    assert result["real"]["used"] == result["generated"]["used"] == 5
    assert any("5 real samples for 400 features" in warning for warning in result["warnings"])
    shutil.copytree(real, tmp_path / "dark")
    for file in (tmp_path / "dark").iterdir():
        Video(frames=Video.load(file).frames // 3, fps=8).save(file, overwrite=True)
    assert fvd(real, tmp_path / "dark", options)["value"] > 0.01


def test_order_stride_and_rate_matter(real: Path, tmp_path: Path, options: FeatureOptions) -> None:
    same = fvd(real, real, options)["value"]
    for name, change in (
        ("backwards", lambda video: Video(frames=video.frames[::-1].copy(), fps=video.fps)),
        ("thinned", lambda video: Video(frames=video.frames[::2], fps=video.fps)),
    ):
        (tmp_path / name).mkdir()
        for file in real.iterdir():
            change(Video.load(file)).save(tmp_path / name / file.name)
        assert fvd(real, tmp_path / name, options)["value"] > 1e-3 > same
    # every second frame of the real ones is what the thinned ones show
    (tmp_path / "half").mkdir()
    for file in (tmp_path / "thinned").iterdir():
        Video(frames=Video.load(file).frames, fps=4).save(tmp_path / "half" / file.name)
    assert fvd(real, tmp_path / "half", options, fps=4)["value"] < 1e-6
    assert fvd(real, tmp_path / "half", options)["value"] > 1e-3  # each at its own rate


def test_what_cannot_be_read_is_listed(real: Path, tmp_path: Path, options: FeatureOptions) -> None:
    fake = folder_of(tmp_path / "fake", 4)
    write_clip(fake / "short.mkv", frames=3)
    (fake / "torn.mp4").write_bytes(b"no video")
    result = score_folders(real, fake, [FVD], rule=ClipRule(frames=4), options=options, resamples=0)
    assert result["generated"]["listed"] == 6 and result["generated"]["used"] == 4
    assert {r["key"] for r in result["generated"]["rejected"]} == {"short.mkv", "torn.mp4"}
    assert result["figures"][0]["generated"] == 4
    with pytest.raises(InputError, match="no generated video can be read, of 6; the first is 0.mkv"):
        score_folders(real, fake, [FVD], rule=ClipRule(frames=13), options=options)


def test_what_a_metric_needs(real: Path, tmp_path: Path, options: FeatureOptions) -> None:
    with pytest.raises(InputError, match="--real"):
        score_folders(None, real, [FVD], options=options)
    with pytest.raises(InputError, match="fvd takes one feature for each video; networks for it are i3d"):
        score_folders(real, real, [Metric(name="fvd", network="inception-clean-fid")], options=options)
    with pytest.raises(InputError, match="CLIPSIM and alignment need prompts, and 0.mkv has none"):
        score_folders(None, real, [Metric(name="clipsim", network="clip-vit-b-32")], options=options)
    with pytest.raises(CheckpointError, match="the protocol expects 0000"):
        score_folders(real, real, [replace(FVD, sha256="0" * 64)], options=options)
    with pytest.raises(ModelNotFoundError, match="inception"):
        score_folders(real, real, [Metric(name="fid-vid", network="inception-clean-fid")], options=options)
    result = score_folders(None, real, [STANDARD.parse_metric("is")], rule=ClipRule(frames=4), options=options)
    figure = result["figures"][0]
    assert 1 <= figure["value"] <= 101 and figure["splits"] == 5 and "few videos" in result["warnings"][0]


def test_clipsim_takes_each_video_with_its_own_prompt(
    tmp_path: Path, options: FeatureOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Brightness:
        """Stands for CLIP: the first frame's level over the prompt's, which is a number."""

        sha256 = "1"

        def similarity(self, videos: np.ndarray, prompts: list[str]) -> np.ndarray:
            return np.array([v[0].mean() / float(p) for v, p in zip(videos, prompts, strict=True)])

    monkeypatch.setattr(ClipScore, "load", lambda *arguments, **names: Brightness())
    metric = [STANDARD.parse_metric("clipsim")]
    for i, level in enumerate((40, 10, 20)):
        frames = np.full((2, 4, 4, 3), level, np.uint8)
        Video(frames=frames, fps=8, metadata={"prompt": str(level)}).save(tmp_path / f"{i}.mkv")
    asked: dict[str, Any] = {"rule": ClipRule(frames=2), "options": options}
    figure = score_folders(None, tmp_path, metric, **asked)["figures"][0]
    assert figure["value"] == pytest.approx(1) and figure["real"] is None and figure["high"] == pytest.approx(1)
    lines = [json.dumps({"file": f"{i}.mkv", "caption": caption}) for i, caption in enumerate(("20", "10", "20"))]
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))  # goes before what the files say
    assert score_folders(None, tmp_path, metric, **asked)["figures"][0]["value"] == pytest.approx(4 / 3)


def test_features_are_kept_in_chunks_and_go_on(ucf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips = file_clips(read_ucf101(ucf, "train01"), ClipRule(frames=4, height=8, width=8))
    reads: list[int] = []

    def read(i: int) -> Any:
        reads.append(i)
        return clips.read(i)

    def stopping(videos: np.ndarray, prompts: Any) -> np.ndarray:
        if len(reads) > 7:
            raise KeyboardInterrupt
        return videos.mean((2, 3), dtype=np.float32).reshape(len(videos), 1, -1)

    def compute(videos: np.ndarray, prompts: Any) -> np.ndarray:
        return videos.mean((2, 3), dtype=np.float32).reshape(len(videos), 1, -1)

    watched = dataclasses.replace(clips, read=read)
    probe = Probe(name="mean", sha256="1", compute=stopping)
    arguments: dict[str, Any] = {"rule": "r", "chunk": 4, "batch_size": 3}
    with pytest.raises(KeyboardInterrupt):
        clip_features(watched, [probe], tmp_path, **arguments)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1  # one chunk of four clips
    reads.clear()
    probes = [replace(probe, compute=compute), Probe(name="other", sha256="2", compute=compute)]
    found = clip_features(watched, probes, tmp_path, **arguments)
    assert sorted(reads) == list(range(10))  # decoded once for both; the first chunk for the new one alone
    assert [r.index for r in found["mean"].rejected] == [1, 9] and found["mean"].rows.shape == (8, 1, 12)
    whole = clip_features(clips, probes[1:], tmp_path / "whole", rule="r")
    np.testing.assert_array_equal(found["mean"].rows, whole["other"].rows)
    reads.clear()
    again = clip_features(watched, probes, tmp_path, **arguments)
    np.testing.assert_array_equal(again["mean"].rows, found["mean"].rows)
    assert reads == [] and again["mean"].rejected == found["mean"].rejected
    for file in tmp_path.glob("mean-*"):
        file.write_bytes(file.read_bytes()[:20])
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(
            clip_features(watched, probes, tmp_path, **arguments)["mean"].rows, found["mean"].rows
        )
    assert "damaged" in caplog.text
    clip_features(watched, probes[:1], tmp_path, **{**arguments, "rule": "another"})
    assert len(reads) == 20


def test_ucf101_from_prompts_to_page(pipe: Show1Pipeline, ucf: Path, tmp_path: Path, options: FeatureOptions) -> None:
    protocol = small_protocol(metrics=(FVD, KVD, Metric(name="is", network="c3d-ucf101", splits=2)))
    out = tmp_path / "out"
    report = run_benchmark(pipe, protocol, out, data=ucf, options=options, batch_size=2, resamples=4)
    assert report["complete"] and report["protocol_id"] == protocol.id and "frozen_id" not in report
    assert report["references"]["used"] == 8 and len(report["references"]["rejected"]) == 2
    assert [f["metric"] for f in report["figures"]] == ["fvd:i3d-stylegan-v", "kvd:i3d-stylegan-v", "is:c3d-ucf101"]
    assert json.loads((out / "report.json").read_text()) == report
    text = (out / "report.md").read_text()
    assert "| Show-1 |" in text and "394.46" in text and "arXiv:2309.15818" in text
    assert "v_Archery_g01_c02.avi" in text and "8 of 10 real videos were used" in text
    assert (out / "sheets" / "samples.png").is_file() and "samples.png" in (out / "index.html").read_text()
    items = work_items(protocol, DATASETS["ucf101"], read_ucf101(ucf, "train01"))
    first = Video.load(out / "videos" / "00000.mkv")
    assert first.metadata["prompt"] == items[0].prompt and first.metadata["seed"] == 0

    # killed: a video, the features and the report are gone
    kept = (out / "videos" / "00003.mkv").stat().st_mtime_ns
    (out / "videos" / "00000.mkv").unlink()
    shutil.rmtree(out / "features")
    before = (out / "report.json").read_bytes()
    (out / "report.json").unlink()
    made: list[str] = []
    again = run_benchmark(
        pipe,
        protocol,
        out,
        data=ucf,
        options=options,
        batch_size=2,
        resamples=4,
        on_progress=lambda what, done, total: made.append(what),
    )
    assert again == report and (out / "report.json").read_bytes() == before
    assert (out / "videos" / "00003.mkv").stat().st_mtime_ns == kept
    assert "features of real videos" not in made  # they are kept

    # a video that was damaged is named, and made again
    sound = (out / "videos" / "00001.mkv").read_bytes()
    (out / "videos" / "00001.mkv").write_bytes(sound[:100])
    run: dict[str, Any] = {"data": ucf, "options": options, "batch_size": 2, "resamples": 4}
    with pytest.raises(RunError, match="00001.mkv cannot be scored"):
        run_benchmark(pipe, protocol, out, **run)
    (out / "videos" / "00001.mkv").unlink()
    assert run_benchmark(pipe, protocol, out, **run) == report
    with pytest.raises(RunError, match="another protocol_id"):
        run_benchmark(pipe, protocol, out, **{**run, "videos": 3})


def test_a_folder_of_ones_own(pipe: Show1Pipeline, tmp_path: Path, options: FeatureOptions) -> None:
    clips = folder_of(tmp_path / "clips", count=3, frames=12)
    (clips / "captions.jsonl").write_text(
        "".join(json.dumps({"file": f"{i}.mkv", "caption": f"clip {i}"}) + "\n" for i in range(3))
    )
    protocol = small_protocol(dataset="folder", split="all", prompts="one-caption", prompt_file=None, videos=0)
    report = run_benchmark(pipe, protocol, tmp_path / "out", data=clips, options=options, resamples=0)
    assert report["videos"] == 3 and report["references"]["used"] == 3 and report["published"] == []
    made = [Video.load(tmp_path / "out/videos" / f"{i:05d}.mkv").metadata["prompt"] for i in range(3)]
    assert sorted(made) == ["clip 0", "clip 1", "clip 2"]


def test_shards_equal_one_pass(pipe: Show1Pipeline, tmp_path: Path, options: FeatureOptions) -> None:
    data = msrvtt(tmp_path / "msrvtt")
    protocol = small_protocol(dataset="msrvtt", split="test", prompts="one-caption", prompt_file=None, videos=4)
    run: dict[str, Any] = {"data": data, "options": options, "batch_size": 1, "resamples": 0, "videos": 3}
    whole = run_benchmark(pipe, protocol, tmp_path / "whole", **run)
    first = run_benchmark(pipe, protocol, tmp_path / "parts", **run, shard=(2, 2))
    assert first == {"complete": False, "videos": 1, "of": 3}
    assert not (tmp_path / "parts" / "report.json").exists()
    assert run_benchmark(pipe, protocol, tmp_path / "parts", **run, shard=(1, 2)) == whole
    assert whole["frozen_id"] == protocol.id != whole["protocol_id"] and whole["frozen_videos"] == 4
    assert "3 videos instead of the 4" in whole["warnings"][0]
    assert whole["references"]["rejected"][0]["key"] == "video7013"
    with pytest.raises(InputError, match="shard"):
        run_benchmark(pipe, protocol, tmp_path / "parts", **run, shard=(3, 2))


def test_vbench_names(pipe: Show1Pipeline, tmp_path: Path) -> None:
    prompts = tmp_path / "all_dimension.txt"
    prompts.write_text("a panda spins\n\na burning cat, driving\n")
    protocol = replace(STANDARD.load_protocol("vbench"), samples_per_prompt=2)
    report = run_benchmark(pipe, protocol, tmp_path / "out", data=prompts)
    assert sorted(file.name for file in (tmp_path / "out" / "vbench").iterdir()) == [
        "a burning cat, driving-0.mp4",
        "a burning cat, driving-1.mp4",
        "a panda spins-0.mp4",
        "a panda spins-1.mp4",
    ]
    assert report["figures"] == [] and report["videos"] == 4
    assert "VBench's own tool" in (tmp_path / "out" / "report.md").read_text()
    prompts.write_text("an either/or\n")
    with pytest.raises(InputError, match="leave out slashes"):
        run_benchmark(pipe, protocol, tmp_path / "other", data=prompts)
    with pytest.raises(InputError, match="needs a file of prompts"):
        run_benchmark(pipe, protocol, tmp_path / "other")


def test_troubles_come_before_the_work(pipe: Show1Pipeline, ucf: Path, tmp_path: Path, options: FeatureOptions) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="--data"):
        run_benchmark(pipe, small_protocol(), out, options=options)
    with pytest.raises(InputError, match="not the layout of UCF-101"):
        run_benchmark(pipe, small_protocol(), out, data=tmp_path, options=options)
    with pytest.raises(ModelNotFoundError, match="i3d_torchscript.pt"):
        nowhere = FeatureOptions(folder=tmp_path, local_files_only=True)
        run_benchmark(pipe, small_protocol(), out, data=ucf, options=nowhere)
    with pytest.raises(InputError, match="do not fit the protocol small: it has 5 frames, but 9"):
        run_benchmark(pipe, small_protocol(frames=9), out, data=ucf, options=options, batch_size=1)
    assert not (out / "videos").exists()


def test_the_plot_shows_every_point() -> None:
    line = {
        "value": 90.0,
        "slope": 500.0,
        "sizes": [10, 20, 50],
        "distances": [[140.0, 115.0, 100.0], [150.0, 110.0, 100.0]],
    }
    plot = distance_plot({"metric": "fvd:<x>", "extrapolation": line})
    ElementTree.fromstring(plot)
    assert plot.count("<circle") == 6 and "at many videos: 90.00" in plot and "fvd:&lt;x&gt;" in plot
