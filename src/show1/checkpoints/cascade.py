"""A cascade whose files are on this disk: where those of each part are, and how it is to be used."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from show1.checkpoints.index import Advice
from show1.checkpoints.weight_files import find_weights
from show1.config import STAGES, CascadeSettings, StageName
from show1.expert_table import Expert
from show1.stage_table import STAGE_TABLE, TEXT, Component, StageRow


@dataclass(frozen=True, kw_only=True)
class Part:
    """The files of one row of the stage table."""

    path: Path
    """Folder that holds the stage's components."""
    source: str
    """Where it comes from: a repository with its commit, or a folder."""
    root: Path
    """Folder of the model, which no link may lead out of."""
    text: Path | None = None
    """Folder that holds the stage's `tokenizer` and `text_encoder`; None for an expert, whose text encoders are among
    its own components."""
    expert: Expert | None = None
    """What the folder holds, if it is a pipeline of diffusers in place of the stage's own networks."""

    def components(self, row: StageRow) -> tuple[Component, ...]:
        """The subfolders of the stage that are used, apart from those of `text`."""
        return row.components if self.expert is None else self.expert.components


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """A cascade whose files are on this disk."""

    name: str
    """Name to display: `mini`, `showlab/show-1`, or a folder's name."""
    model: str | dict[str, str]
    """The argument of `resolve` that finds it again."""
    parts: dict[str, Part]
    """The stages in order, then the optional parts that there are."""
    settings: CascadeSettings
    """The settings that it was made for."""
    customization: Advice = field(default_factory=dict)
    """Options that suit its customization."""
    variant: str | None = None
    """Weight files to prefer."""

    @property
    def stages(self) -> tuple[StageName, ...]:
        """The stages, in order."""
        return tuple(s for s in STAGES if s in self.parts)

    def weight_files(self, stages: Sequence[str] | None = None) -> dict[str, Path]:
        """Weight files by `stage/component/name`, of some rows (and their text encoders) or of all."""
        files: dict[str, Path] = {}
        for name, part in self.parts.items():
            if stages is not None and name not in stages:
                continue
            folders = [part.path / c.name for c in part.components(STAGE_TABLE[name]) if c.has_weights]
            folders += [part.text / c.name for c in TEXT if c.has_weights] if part.text is not None else []
            for folder in folders:
                for file in find_weights(folder, self.variant):
                    files[f"{name}/{folder.name}/{file.name}"] = file
        return files
