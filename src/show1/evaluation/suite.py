"""A resumable evaluation: claims a folder, generates what is missing, measures, and writes a report.

Every evaluation (a benchmark, the alignment of a model, a comparison of methods) is a `Suite`: a list of items, a
function that makes some of them, and a function that measures them all. What is made is kept in the folder, so that an
evaluation that was interrupted resumes when it is run again, and ends with the same report.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from show1.config import CascadeSettings
from show1.errors import InputError, RunError
from show1.evaluation.report import Report
from show1.files import read_json_object, write_json
from show1.launch import own_place
from show1.runtime.processes import gathered

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, kw_only=True)
class Suite(Generic[ItemT]):
    """What an evaluation consists of."""

    out: Path
    """Folder of the evaluation, new or begun."""

    kind: str
    """What the folder holds, in messages: `a benchmark`, `an evaluation`."""

    record: str
    """File in the folder that says what the figures depend on."""

    identity: Mapping[str, Any]
    """What the figures depend on, with its `id`: see `identify`."""

    items: Sequence[ItemT]
    """What is made, such as prompts with their seeds."""

    is_made: Callable[[ItemT], bool]
    """Whether the folder holds all files of an item."""

    make: Callable[[Sequence[ItemT]], None]
    """Makes a batch of items and writes their files."""

    measure: Callable[[], dict[str, Any]]
    """Measures all items once they are made; returns the fields of the report."""

    write: Callable[[dict[str, Any]], Report]
    """Makes the readable report of the fields."""

    batch_size: int = 1
    """Items made together. An interrupted batch is made again as a whole, so that the last digits stay the same."""

    def run(
        self, *, shard: tuple[int, int] = (1, 1), on_progress: Callable[[int, int], None] | None = None
    ) -> dict[str, Any]:
        """Makes what is missing; once every item is there, measures them and writes the report.

        Where torchrun or `accelerate launch` has started several processes, each makes a part; the first one measures.

        Args:
            shard: (i, n): this process makes the i-th of n parts, i from 1.
            on_progress: Called before each batch that is made, and at the end, with items done and items in all.

        Returns:
            What `report.json` holds; `{"complete": False, ...}` while other shards are missing, and in all processes
            but the first.

        Raises:
            InputError: The shard or the batch size cannot be used.
            RunError: The folder holds another evaluation.
        """
        first, parts = shard
        if not 1 <= first <= parts or self.batch_size < 1:
            raise InputError(
                f"shard must be i/n with 1 <= i <= n and batch_size 1 or more, got {shard} and {self.batch_size}"
            )
        self._claim_folder()
        number, count = own_place()
        self._make_missing((first - 1) * count + number + 1, parts * count, on_progress)
        measures = gathered(None) is not None  # waits for the other processes of this command
        made = sum(map(self.is_made, self.items))
        if made < len(self.items) or not measures:
            return {"complete": False, "videos": made, "of": len(self.items)}
        fields = {**self.identity, **self.measure()}
        write_json(self.out / "report.json", fields)
        self.write(fields).save(self.out)
        return fields

    def _claim_folder(self) -> None:
        """Writes the identity into the folder, unless the folder is that of another evaluation."""
        file = self.out / self.record
        if not file.is_file():
            write_json(file, self.identity)
            return
        try:
            before = read_json_object(file)
        except ValueError as error:
            raise RunError(f"{file} is damaged ({error}); name another folder with --out") from error
        if before.get("id") == self.identity["id"]:
            return
        changed = next((k for k, v in self.identity.items() if k != "id" and not _same(k, before.get(k), v)), None)
        if changed is not None:
            other = f"other {changed}" if changed.endswith("s") else f"another {changed}"
            raise RunError(f"{file.parent} holds {self.kind} with {other}; name another folder with --out")
        write_json(file, self.identity)

    def _make_missing(self, first: int, parts: int, on_progress: Callable[[int, int], None] | None) -> None:
        size = self.batch_size
        batches = [self.items[i : i + size] for i in range(0, len(self.items), size)][first - 1 :: parts]
        total, done = sum(map(len, batches)), 0
        for batch in batches:
            if not all(map(self.is_made, batch)):
                if on_progress is not None:
                    on_progress(done, total)
                self.make(batch)
            done += len(batch)
        if on_progress is not None:
            on_progress(total, total)


def identify(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what figures depend on, as JSON saves it, with 16 hex digits of its hash as `id`."""
    text = json.dumps(parts, sort_keys=True)
    return {"id": hashlib.sha256(text.encode()).hexdigest()[:16], **json.loads(json.dumps(parts))}


def _same(part: str, before: Any, now: Any) -> bool:
    """Whether a part of an identity is what it was; settings of earlier versions lack those that were added since."""
    if part != "settings" or before == now:
        return bool(before == now)
    try:
        return CascadeSettings.from_dict(before) == CascadeSettings.from_dict(now)
    except InputError:
        return False
