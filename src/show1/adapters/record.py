"""How run folders and videos name the adapters that they were made with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from show1.config import StageName
from show1.errors import InputError
from show1.files import sha256
from show1.limits import MAX_ADAPTER_BYTES
from show1.options import shortened

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A hash in hex."""
Weight = Annotated[float, Field(ge=-1e6, le=1e6)]
"""Multiplier of an adapter's weight change."""


class Record(BaseModel):
    """A part of a saved file: exact types, finite numbers, and nothing changes it."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="ignore")

    def to_dict(self) -> dict[str, Any]:
        """The saved form: JSON types only, and nothing that is None."""
        return self.model_dump(mode="json", exclude_none=True)


class AdapterRecord(Record):
    """Where an adapter's file is, and the weights that it is used with."""

    name: Annotated[str, Field(min_length=1)]
    """Its name in the pipeline."""
    path: str
    """Absolute path of its file."""
    sha256: Sha256
    """Hash of the file."""
    stage: StageName
    """The stage whose network it changes."""
    weight: Weight
    """Multiplier of its weight change; 0 leaves the network as it is."""
    detail_weight: Weight
    """The multiplier at low noise levels, where details are drawn."""
    noise_weight: Annotated[float, Field(ge=0, le=1)]
    """Share of the start noise's variance that comes from the adapter, 0 to 1."""

    @model_validator(mode="before")
    @classmethod
    def _fill_detail_weight(cls, values: Any) -> Any:
        """Records of before `detail_weight` have one weight for all noise levels."""
        if isinstance(values, Mapping) and "detail_weight" not in values and "weight" in values:
            return {**values, "detail_weight": values["weight"]}
        return values

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Reads the saved form.

        Raises:
            InputError: It is damaged.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(f"the record of an adapter is damaged ({explain(error)}): {values!r}") from error

    @property
    def has_effect(self) -> bool:
        """Whether it changes the network at any noise level."""
        return self.weight != 0 or self.detail_weight != 0

    @property
    def shown_weight(self) -> str:
        """The weight for people, and that of details if it is another."""
        one = self.detail_weight == self.weight
        return str(self.weight) if one else f"{self.weight}, in details {self.detail_weight}"

    @property
    def given(self) -> str:
        """How `--adapter` takes it: the stage and the file, and its weights where they are not 1."""
        weights = [self.weight] if self.detail_weight == self.weight else [self.weight, self.detail_weight]
        return ":".join([f"{self.stage}={self.path}", *(f"{weight:g}" for weight in weights if weights != [1])])

    def check_file(self) -> None:
        """Makes sure that the file is the one that was used. Only ordinary files are opened.

        Raises:
            InputError: It is not there, or has changed since.
        """
        file = Path(self.path)
        if not file.is_file() or not file.stat().st_size:  # files of the system have content but no size
            elsewhere = self.model_copy(update={"path": "FILE"}).given
            raise InputError(
                f"the adapter {self.name!r} is no longer at {self.path}; put it back, or load it from where it "
                f"is now (`show1 generate --adapter {elsewhere}`)"
            )
        if not 8 < file.stat().st_size <= MAX_ADAPTER_BYTES:  # files of the system have no size, and may have no end
            raise InputError(f"{self.path} is no adapter, by its size; correct the record of {self.name!r}")
        if sha256(file) != self.sha256:
            raise InputError(
                f"{self.path} has changed since the adapter {self.name!r} was used (its sha256 was "
                f"{self.sha256[:12]}); put the old file back, or generate again with this one"
            )


def explain(error: ValidationError) -> str:
    """The first thing that a validation found, with the place of it: `stages.keyframes.sha256: ...`."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = shortened(first["msg"].removeprefix("Value error, "), 400)
    return f"{place}: {message}" if place else message
