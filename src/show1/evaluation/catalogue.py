"""The names that benchmarks can use: data sets, feature networks, and frozen protocols.

`STANDARD` holds what evaluation itself provides. A package that brings more (a data set, a judge of alignment) makes a
catalogue with `STANDARD.extended(...)`, and whoever calls `run_benchmark` or `score_folders` hands it in.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Self

from show1.errors import InputError
from show1.evaluation.benchmark_protocol import BenchmarkProtocol, Metric, MetricName
from show1.evaluation.datasets import DATASETS, Dataset
from show1.evaluation.probes import ProbeSource
from show1.files import read_json_object

_USUAL_NETWORKS: dict[str, str] = {
    "fvd": "i3d-stylegan-v",
    "kvd": "i3d-stylegan-v",
    "fid-vid": "inception-clean-fid",
    "is": "c3d-ucf101",
    "clipsim": "clip-vit-b-32",
}
"""Networks of metrics that name none."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Data sets, feature networks of plug-ins, and protocols, by their names."""

    datasets: Mapping[str, Dataset]
    """Data sets."""

    networks: Mapping[str, ProbeSource]
    """Feature networks that plug-ins bring."""

    protocols: Mapping[str, Traversable]
    """Files of the frozen protocols."""

    def extended(
        self, *, datasets: Mapping[str, Dataset], networks: Mapping[str, ProbeSource], protocols: Traversable
    ) -> Self:
        """Adds to a catalogue.

        Args:
            datasets: More data sets.
            networks: More feature networks.
            protocols: Folder with more protocols.
        """
        return dataclasses.replace(
            self,
            datasets={**self.datasets, **datasets},
            networks={**self.networks, **networks},
            protocols={**self.protocols, **_protocol_files(protocols)},
        )

    @property
    def protocol_names(self) -> tuple[str, ...]:
        """Names of the frozen protocols, sorted."""
        return tuple(sorted(self.protocols))

    def load_protocol(self, name_or_path: str | Path) -> BenchmarkProtocol:
        """Loads a frozen protocol, or one from a JSON file.

        Raises:
            InputError: No such protocol, or its file cannot be used.
        """
        name = str(name_or_path)
        if name in self.protocols:
            return BenchmarkProtocol.from_dict(json.loads(self.protocols[name].read_text(encoding="utf-8")))
        path = Path(name)
        if not path.is_file():
            raise InputError(
                f"there is no protocol {name!r}; there are {', '.join(self.protocol_names)}, or give a JSON file"
            )
        try:
            fields = read_json_object(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a protocol: {error}") from error
        protocol = BenchmarkProtocol.from_dict(fields)
        beside = path.parent / (protocol.prompt_file or "")
        if protocol.prompt_file and beside.is_file():
            protocol = dataclasses.replace(protocol, prompt_file=str(beside))
        return protocol

    def parse_metric(self, text: str) -> Metric:
        """Reads `NAME` or `NAME:NETWORK`.

        Raises:
            InputError: No such metric.
        """
        served: dict[str, str] = {name: network for network, source in self.networks.items() for name in source.metrics}
        usual = {**served, **_USUAL_NETWORKS}
        name, _, network = text.partition(":")
        if name not in usual:
            raise InputError(f"there is no metric {name!r}; write NAME or NAME:NETWORK with one of {', '.join(usual)}")
        metric: MetricName = name  # type: ignore[assignment]
        return Metric(name=metric, network=network or usual[name])

    def check_prompts(self, metrics: Sequence[Metric], prompts: Sequence[str]) -> None:
        """Raises `InputError` for a prompt that a metric's judge cannot judge: before videos are made or read."""
        for metric in metrics:
            if metric.name == "alignment" and metric.network in self.networks:
                for prompt in prompts:
                    self.networks[metric.network].check_prompt(prompt)


def _protocol_files(folder: Traversable) -> dict[str, Traversable]:
    return {f.name.removesuffix(".json"): f for f in folder.iterdir() if f.name.endswith(".json")}


STANDARD = Catalogue(datasets=DATASETS, networks={}, protocols=_protocol_files(files("show1.evaluation") / "protocols"))
"""Catalogue of what evaluation itself provides."""
