"""Options of trainings."""

from pathlib import Path

from show1.options import Options


class SavedOptions(Options):
    """What the dataclasses with the options of trainings share."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        raise NotImplementedError

    def check_ranges(self, checks: dict[str, tuple[bool, str]]) -> None:
        """Raises `InputError` for the first option that is not what is expected: name -> (well?, expected)."""
        for name, (well, expected) in checks.items():
            self.check(name, well, expected)
