"""Options of clips of the sprite world, and of the training task that reads their captions. Loads without torch."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from show1.errors import InputError
from show1.options import Options
from show1.sprites.world import check_subject_shares
from show1.stage_table import SHARED_TEXT
from show1.training.options import TaskOptions

if TYPE_CHECKING:
    from show1.data.clips import ClipView

NAME = "sprites"
"""Name of the sprite world where training data are named."""


@dataclass(frozen=True, kw_only=True)
class SpriteOptions(Options):
    """Selects the scenes of the sprite world for a training; written as `sprites:spins=0.3,groups=0.2`."""

    options_of: ClassVar[str] = NAME

    spins: float | None = None
    """Share of the clips whose subject spins, 0 to 1. None: as often as any other motion."""

    tilts: float = 0.0
    """Share of the clips of one subject with one motion, be it ordinary, small or big, in which it lies at some angle
    ("a tilted cat"), 0 to 1. A network can then also spin subjects that it never sees spin."""

    groups: float = 0.0
    """Share of the clips that show two subjects and their relation, several subjects of one kind, or a small or big
    subject, 0 to 1."""

    relations: float | None = None
    """Share of those clips of groups that show two subjects and their relation, 0 to 1. None: a third."""

    two_motions: float = 0.0
    """Share of the clips that show two subjects with a motion each, or one subject that changes its direction, 0 to
    1."""

    pairs: float | None = None
    """Share of those clips with two motions that show two subjects, 0 to 1. None: half."""

    motions_per_scene: int = 1
    """Number of consecutive clips that show one subject over one background in different motions. `keyframes` gives
    them the same noise, so the loss mostly measures whether the words for motions are understood."""

    subject_share: tuple[str, ...] = ()
    """Subject and the share of the clips that show it, alone or in a group, such as `bicycle:0.25`; may be given
    several times."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("spins", "tilts", "groups", "relations", "two_motions", "pairs", least=0, most=1)
        self.check_range("motions_per_scene", least=1)
        check_subject_shares(self.subject_shares)
        if self.motions_per_scene > 1:
            for each in fields(self):
                if each.name != "motions_per_scene" and getattr(self, each.name) != each.default:
                    raise InputError(f"{each.name} does not go with motions_per_scene; leave one of them out")

    @property
    def subject_shares(self) -> tuple[tuple[str, float], ...]:
        """`subject_share` as names and numbers."""
        shares = []
        for text in self.subject_share:
            name, _, share = text.rpartition(":")
            try:
                shares.append((name, float(share)))
            except ValueError:
                raise InputError(f"subject_share: expected NAME:SHARE, such as bicycle:0.25, got {text!r}") from None
        return tuple(shares)

    @property
    def spec(self) -> str:
        """The options in the form that `from_spec` reads: `sprites`, then those that differ from their defaults."""
        numbers = [each for each in fields(self) if each.name != "subject_share"]
        words = [f"{n.name}={getattr(self, n.name)}" for n in numbers if getattr(self, n.name) != n.default]
        words += [f"subject_share={name}:{share!r}" for name, share in self.subject_shares]
        return NAME + (":" + ",".join(words) if words else "")

    @classmethod
    def from_spec(cls, spec: str) -> Self:
        """Reads `sprites` or `sprites:spins=0.3,subject_share=bicycle:0.25`.

        Raises:
            InputError: An option is unknown or out of its range.
        """
        kinds: dict[str, Any] = {"motions_per_scene": int, "subject_share": str}
        values: dict[str, Any] = {}
        for word in filter(None, spec.partition(":")[2].split(",")):
            name, _, text = word.partition("=")
            if name not in {each.name for each in fields(cls)}:
                known = ", ".join(each.name for each in fields(cls))
                raise InputError(f"{NAME}: unknown option {name!r}; the options are {known}, see docs/train.md")
            try:
                value = kinds.get(name, float)(text)
            except ValueError:
                raise InputError(f"{NAME}: {name} must be a number, got {text!r}") from None
            values[name] = (*values.get(name, ()), value) if name == "subject_share" else value
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class TextOptions(TaskOptions):
    """Options of the training of a text encoder on captions of the sprite world."""

    task: ClassVar[str] = "text"
    stage = SHARED_TEXT
    about: ClassVar[str] = "Train a small text encoder for captions of the sprite world, which all stages can share."
    example: ClassVar[tuple[str, ...]] = ("--data sprites",)
    implementation: ClassVar[str] = "show1.sprites.text_task:TextTask"

    def view(self) -> "ClipView":
        """See `TaskOptions.view`: the smallest frames, because only captions are read."""
        from show1.data.clips import ClipView

        return ClipView(num_frames=2, height=8, width=8)
