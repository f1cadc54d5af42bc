"""The sprite world as a plug-in of the benchmarks: its data set, its feature network, and its frozen protocol."""

from collections.abc import Sequence
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from show1.errors import InputError
from show1.evaluation.benchmark_protocol import BenchmarkProtocol, Metric, MetricName
from show1.evaluation.catalogue import STANDARD
from show1.evaluation.clips import ClipSet, Entry, Frames
from show1.evaluation.datasets import Dataset, repeated
from show1.evaluation.probes import Probe
from show1.sprites.alignment.judge import CRITERIA, SceneJudge, clip_moments
from show1.sprites.alignment.prompts import alignment_prompts, prompts_sha256, read_prompt
from show1.sprites.readers.subject import SpriteReader
from show1.sprites.world import ASSETS
from show1.tables import json_rows
from show1.video import Video

READER = "sprite-reader"
"""Name of the feature network."""


class SpriteDataset(Dataset):
    """Renders of what the alignment prompts ask for, as real videos."""

    has_videos = True

    def list_prompts(self, protocol: BenchmarkProtocol, entries: Sequence[Entry]) -> list[str]:
        """Lists the prompts of the protocol's split; see `Dataset.list_prompts`."""
        lines = protocol.read_prompt_file(ASSETS).split("\n")
        try:
            rows = [row for _, row in json_rows(lines, str(protocol.prompt_file))]
            prompts = [str(row["prompt"]) for row in rows if protocol.split in ("all", row["set"])]
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{protocol.prompt_file} must hold JSON objects with prompt and set, one per line: {error!r}"
            ) from error
        return repeated(protocol, prompts)

    def real_clips(self, protocol: BenchmarkProtocol, entries: Sequence[Entry]) -> ClipSet:
        """Returns renders of what the prompts ask for, different ones in each round; see `Dataset.real_clips`."""
        prompts = [prompt for prompt in alignment_prompts() if protocol.split in ("all", prompt.set)]
        count = protocol.references or len(prompts)

        def read(i: int) -> Frames:
            video = SceneJudge.truth(
                prompts[i % len(prompts)],
                seed=10 + protocol.reference_seed + i // len(prompts),
                num_frames=protocol.frames,
                height=protocol.height,
                width=protocol.width,
            )
            return Video.from_tensor(video, fps=8.0).frames

        keys = tuple(f"{prompts[i % len(prompts)].index:03d}-{i // len(prompts)}" for i in range(count))
        return ClipSet(keys=keys, read=read, fingerprint=f"sprite world 1, prompts {prompts_sha256()}, {count} clips")


class SpriteReaderSource:
    """The sprite world's reader: features of frames, their moments over a clip, or which criteria a prompt meets."""

    metrics: tuple[MetricName, ...] = ("fvd", "fid-vid", "kvd", "alignment")

    def check_prompt(self, prompt: str) -> None:
        """Raises `InputError` for a prompt that is not one of the sprite world."""
        read_prompt(prompt)

    def load(self, metric: Metric) -> Probe:
        """Loads the reader for a metric."""
        judge, judges = SceneJudge(), metric.name == "alignment"

        def rows(video: Tensor, prompt: str) -> NDArray[np.float32]:
            if judges:
                verdicts = judge.score(video)[0].verdicts(read_prompt(prompt))
                return np.array([list(verdicts.values())], dtype=np.float32)
            features: NDArray[np.float32] = judge.reader.read(video).features.numpy()
            return features if metric.name == "fid-vid" else clip_moments(features)[None]

        def compute(clips: NDArray[np.uint8], prompts: Sequence[str]) -> NDArray[np.float32]:
            videos = [Video(frames=np.ascontiguousarray(clip), fps=1.0).to_tensor() for clip in clips]
            return np.stack([rows(video, prompt) for video, prompt in zip(videos, prompts, strict=True)])

        part = {"fid-vid": "frames", "alignment": "alignment"}.get(metric.name, "clips")
        return Probe(
            name=f"{READER}-{part}",
            sha256="-".join(judge.readers) if judges else SpriteReader.sha256(),
            compute=compute,
            uses_prompts=judges,
            criteria=CRITERIA if judges else (),
        )


CATALOGUE = STANDARD.extended(
    datasets={"sprites": SpriteDataset()},
    networks={READER: SpriteReaderSource()},
    protocols=files("show1.sprites") / "protocols",
)
"""Catalogue of the benchmarks, with the sprite world."""
