"""Which process of a command this is, if torchrun or `accelerate launch` has started several."""

import os


def own_place() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the only process of the command, or the first one."""
    return own_place()[0] == 0


def several() -> bool:
    """Whether there are other processes of this command."""
    return own_place()[1] > 1
