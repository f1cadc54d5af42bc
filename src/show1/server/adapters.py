"""Adapters that clients may choose: those of the operator's folder, and those that they upload themselves.

::

    show1-data/
      adapters/NAME.safetensors            for every client; `--adapters` names another folder
      adapters/STAGE/NAME.safetensors      LoRA files of other programs, which do not say their stage
      adapters/EXPERT/NAME.safetensors     LoRA files of an expert
      uploads/KEY/...                      the same of one API key, or `_` where there are no keys
"""

import logging
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from show1.adapters.adapter import is_adapter_file
from show1.adapters.adapter_set import AdapterSet
from show1.checkpoints.weight_files import read_shapes
from show1.config import STAGES, StageName
from show1.errors import CheckpointError, InputError, OutputError
from show1.files import sha256, write_atomically
from show1.server.asked import BadRequest, Text
from show1.server.jobs import DataFolder
from show1.server.models import Models
from show1.stage_table import STAGE_TABLE

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"
EXPERT_STAGE = next(stage for stage in STAGES if STAGE_TABLE[stage].takes_experts)
"""The stage whose place experts take."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Upload(BaseModel):
    """The fields of `POST /v1/adapters`, beside its `file`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: Text
    """What it is to be called: up to 64 letters, digits and . _ -"""
    stage: StageName | None = None
    """The stage whose network it changes, of a LoRA by another program."""
    expert: Text | None = None
    """The expert that it is a LoRA of."""


@dataclass(frozen=True, kw_only=True)
class StoredAdapter:
    """A file that clients may name."""

    name: str
    """Its name: that of the file without its suffix."""
    file: Path
    """Where it is."""
    stage: StageName | None
    """The stage that it changes; None: it says so itself."""
    expert: str | None = None
    """The expert that it is for; None: for the cascade's own networks."""
    uploaded: bool = False
    """Whether the client has uploaded it."""
    prompt: str = ""
    """Trigger words."""

    def view(self) -> dict[str, object]:
        """How it looks to a client."""
        known = {"name": self.name, "stage": self.stage, "expert": self.expert, "prompt": self.prompt}
        return {"object": "adapter", **known, "uploaded": self.uploaded}


def find_adapter(data: DataFolder, name: str, owner: str | None, expert: str | None) -> StoredAdapter | None:
    """The file of an adapter: first one of the expert that is used, and then one of the client's own.

    Args:
        data: The server's folder.
        name: Its name.
        owner: Name of the client's API key.
        expert: The expert that the job uses.
    """
    found = [a for a in _stored(data, owner) if a.name == name and a.expert in (None, expert)]
    return min(found, key=lambda a: (a.expert is None, not a.uploaded), default=None)


def _stored(data: DataFolder, owner: str | None) -> Iterator[StoredAdapter]:
    """All files that a client may name, as far as their places say what they are."""
    data.store.fetch_folder(data.uploads(owner))
    for folder, uploaded in ((data.uploads(owner), True), (data.adapters, False)):
        for file in sorted([*folder.glob(f"*{SUFFIX}"), *folder.glob(f"*/*{SUFFIX}")]):
            place = file.parent.name if file.parent != folder else None
            own = next((stage for stage in STAGES if stage == place), None)
            expert = place if own is None else None
            stage = EXPERT_STAGE if expert is not None else own
            yield StoredAdapter(name=file.stem, file=file, stage=stage, expert=expert, uploaded=uploaded)


class Adapters:
    """The adapters of a server. Its methods may be called from several threads."""

    def __init__(self, data: DataFolder, models: Models, *, most: int, takes_uploads: bool = False) -> None:
        """Takes where they are and what they must fit.

        Args:
            data: The server's folder.
            models: The model, and those with experts.
            most: Uploads of one client.
            takes_uploads: Whether clients may upload any.
        """
        self.takes_uploads = takes_uploads
        self._data, self._models, self._most = data, models, most
        self._changing = threading.Lock()
        self._read: dict[tuple[Path, str | None, int, int], StoredAdapter | None] = {}

    def offered(self, owner: str | None) -> list[StoredAdapter]:
        """The adapters that a client may choose; files that do not fit the model are left out.

        Args:
            owner: Name of the client's API key.
        """
        found = {}
        for stored in reversed(list(_stored(self._data, owner))):  # a client's own stand last
            if (known := self._checked(stored)) is not None:
                found[known.name, known.expert] = known
        return sorted(found.values(), key=lambda a: (a.expert or "", a.name))

    def chosen(self, names: Mapping[str, float], owner: str | None, expert: str | None) -> dict[str, StoredAdapter]:
        """The adapters that a client asks for, by their names.

        Args:
            names: Their weights, by their names.
            owner: Name of the client's API key.
            expert: The expert that is asked for.

        Raises:
            BadRequest: There is none of a name, or it does not go with the expert.
        """
        offered = [a for a in self.offered(owner) if a.expert in (None, expert)] if names else []
        found = {}
        for name in names:
            mine = [a for a in offered if a.name == name]
            if not mine:
                known = ", ".join(dict.fromkeys(a.name for a in offered)) or "none"
                with_it = "" if expert is None else f" for {expert}"
                raise BadRequest(f"there is no adapter {name[:60]!r}{with_it}; there are {known}", "adapters")
            found[name] = next((a for a in mine if a.expert is not None), mine[0])
            if expert is not None and found[name].expert is None and found[name].stage == EXPERT_STAGE:
                raise BadRequest(
                    f"the adapter {name[:60]!r} is for the model's own {EXPERT_STAGE}, and {expert} is in its place; "
                    "leave one of them out",
                    "adapters",
                )
        return found

    def add(self, upload: Path, asked: Upload, owner: str | None) -> StoredAdapter:
        """Keeps a file that a client has uploaded, if it fits the model.

        Args:
            upload: The file.
            asked: Its name, and what it is for.
            owner: Name of the client's API key.

        Raises:
            BadRequest: It is no adapter, does not fit, or its name cannot be used.
            OutputError: It cannot be written.
        """
        if _NAME.fullmatch(asked.name) is None:
            raise BadRequest("the name of an adapter has up to 64 letters, digits and . _ -", "name")
        if asked.stage is not None and asked.expert is not None:
            raise BadRequest("give stage or expert, not both", "expert")
        stage = asked.stage if asked.expert is None else EXPERT_STAGE
        new = StoredAdapter(name=asked.name, file=upload, stage=stage, expert=asked.expert, uploaded=True)
        known = self._check_file(new)
        folder = self._data.uploads(owner)
        place = folder / (asked.expert or asked.stage or "") / f"{asked.name}{SUFFIX}"
        with self._changing:
            mine = [a for a in _stored(self._data, owner) if a.uploaded]
            if any(a.name == asked.name and (a.file != place or sha256(a.file) != sha256(upload)) for a in mine):
                raise BadRequest(f"you have another adapter called {asked.name}; delete it, or choose a name", "name")
            if any(a.name == asked.name for a in _stored(self._data, owner) if not a.uploaded):
                raise BadRequest(f"there is an adapter called {asked.name} already; choose another name", "name")
            if len(mine) >= self._most and not place.is_file():
                raise BadRequest(f"you have {len(mine)} adapters, and {self._most} are the most; delete one", "file")
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{place.parent} cannot be made: {error.strerror or error}") from error
            write_atomically(place, lambda partial: shutil.copyfile(upload, partial))
            self._data.store.publish(place)
        return replace(known, file=place)

    def remove(self, name: str, owner: str | None) -> bool:
        """Removes an adapter that a client has uploaded; returns whether there was one."""
        with self._changing:
            mine = [a.file for a in _stored(self._data, owner) if a.uploaded and a.name == name]
            for file in mine:
                self._data.store.remove(file)
        return bool(mine)

    def _checked(self, stored: StoredAdapter) -> StoredAdapter | None:
        """What a file says of itself; None if it cannot be used. Each state of a file is read once."""
        try:
            known = stored.file.stat()
        except OSError:
            return None
        state = (stored.file, stored.expert, known.st_mtime_ns, known.st_size)
        if state not in self._read:
            try:
                self._read[state] = self._check_file(stored)
            except (BadRequest, OSError) as error:
                logger.warning("%s cannot be used: %s", stored.file, error)
                self._read[state] = None
        return self._read[state]

    def _check_file(self, stored: StoredAdapter) -> StoredAdapter:
        """What a file says of itself.

        Raises:
            BadRequest: It is no adapter, or does not fit the model.
        """
        try:
            pipe = self._models.get(stored.expert)
        except InputError as error:
            raise BadRequest(str(error), "expert") from error
        try:
            read_shapes(stored.file)
        except CheckpointError as error:
            message = "the file is damaged, or no safetensors file; export the adapter again"
            raise BadRequest(message, "file", "invalid_adapter") from error
        fitting = AdapterSet(pipe.cascade)
        try:
            if stored.stage is None and not is_adapter_file(stored.file):
                raise BadRequest(
                    "the file does not say which network it changes: give the stage (one of "
                    f"{', '.join(pipe.stages)}), or the expert that it is for",
                    "stage",
                )
            if stored.expert is not None and is_adapter_file(stored.file):
                raise BadRequest("the file is an adapter of the model's own networks; leave the expert out", "expert")
            fitting.load(stored.file, stored.name, stage=stored.stage)
        except BadRequest:
            raise
        except (InputError, CheckpointError) as error:
            message = str(error).replace(f"{stored.file.absolute()}", "the file")
            raise BadRequest(message, "file", "invalid_adapter") from error
        (loaded,) = fitting
        prompt = "" if loaded.adapter is None else loaded.adapter.prompt
        return replace(stored, stage=loaded.record.stage, prompt=prompt)
