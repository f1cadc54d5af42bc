"""A model's identity: hashes of its weight files, and the adapters in use."""

from collections.abc import Sequence

from show1.adapters.adapter_set import AdapterSet
from show1.adapters.record import AdapterRecord
from show1.checkpoints.locate import Cascade
from show1.config import StageName
from show1.files import cached_sha256, sha256_of_text
from show1.generation.manifest import ModelRecord
from show1.stage_table import parts_of


class ModelIdentity:
    """Identifies a cascade with its adapters; each weight file is hashed once."""

    def __init__(self, cascade: Cascade, adapters: AdapterSet) -> None:
        """Reads nothing yet."""
        self._cascade = cascade
        self._adapters = adapters
        self._hashes: dict[str, str] = {}

    def record(self, stages: Sequence[StageName]) -> ModelRecord:
        """The identity, with the weight files of these stages and of their text encoders.

        Its adapters are those of all stages, for runs that get more stages later; its hash counts only those of these
        stages.
        """
        files = self._cascade.weight_files(parts_of(stages))
        for name, file in files.items():
            if name not in self._hashes:
                self._hashes[name] = cached_sha256(file)
        hashes = {name: self._hashes[name] for name in files}
        lines = [f"{name} {value}" for name, value in sorted(hashes.items())]
        lines += [_line(adapter.record) for adapter in self._adapters.active(stages)]
        return ModelRecord(
            name=self._cascade.name,
            model=self._cascade.model,
            stages=self._cascade.stages,
            sources={name: part.source for name, part in self._cascade.parts.items()},
            sha256=sha256_of_text("\n".join(lines)),
            files=hashes,
            adapters=tuple(adapter.record for adapter in self._adapters.active()),
        )


def _line(adapter: AdapterRecord) -> str:
    """What an adapter does to the model, as a line to be hashed."""
    details = "" if adapter.detail_weight == adapter.weight else f" {adapter.detail_weight}"
    return f"{adapter.stage} {adapter.sha256} {adapter.weight} {adapter.noise_weight}{details}"
