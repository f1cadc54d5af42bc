"""Rows of features, gathered batch by batch and merged over processes.

They are kept in float32: 10,000 videos of 400 features are 16 MB.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from show1.errors import InputError


class Rows:
    """Rows (N, D) of features or probabilities, kept in float32.

    With the position of each row's video, shards merge in any order and the whole equals one pass. Without positions
    rows stand as they came, and a merged part follows what is there.
    """

    def __init__(self) -> None:
        self._batches: list[NDArray[np.float32]] = []
        self._positions: list[NDArray[np.int64]] = []

    @property
    def count(self) -> int:
        """Rows so far."""
        return sum(map(len, self._batches))

    def update(self, rows: ArrayLike, positions: Sequence[int] | None = None) -> None:
        """Adds a batch.

        Args:
            rows: (N, D), finite.
            positions: (N,) places in the whole; given always or never.

        Raises:
            InputError: Not a matrix, of another width than before, not finite, or positions do not fit.
        """
        batch = np.array(rows, dtype=np.float32)
        width = self._batches[0].shape[1] if self._batches else None
        if batch.ndim != 2 or width not in (None, batch.shape[1]):
            raise InputError(f"rows must be (N, {'D' if width is None else width}), got {batch.shape}")
        if not np.isfinite(batch).all():
            raise InputError("rows must be finite, got NaN or infinity")
        if not len(batch):
            return
        if positions is not None and len(positions) != len(batch):
            raise InputError(f"{len(batch)} rows need as many positions, got {len(positions)}")
        if self._batches and (positions is None) != (not self._positions):
            raise InputError("positions must be given for all rows or for none")
        self._batches.append(batch)
        if positions is not None:
            self._positions.append(np.array(positions, dtype=np.int64))

    def merge(self, other: "Rows") -> None:
        """Adds what another one has gathered.

        Raises:
            InputError: Of another width, or one has positions and the other has none.
        """
        for i, batch in enumerate(list(other._batches)):
            self.update(batch, other._positions[i].tolist() if other._positions else None)

    def matrix(self) -> NDArray[np.float64]:
        """Returns all rows (N, D), by position.

        Raises:
            InputError: There is none, or two have the same position.
        """
        if not self._batches:
            raise InputError("there are no rows yet: call update first")
        rows = np.concatenate(self._batches)
        if self._positions:
            places = np.concatenate(self._positions)
            order = np.argsort(places, kind="stable")
            twice = places[order][1:][np.diff(places[order]) == 0]
            if len(twice):
                raise InputError(f"position {twice[0]} came twice: two shards scored the same video")
            rows = rows[order]
        return rows.astype(np.float64)


def check_widths(real: NDArray[np.float64], fake: NDArray[np.float64]) -> None:
    """Raises `InputError` unless both sides, of shape (..., D), have the same number of features D."""
    if real.shape[-1] != fake.shape[-1]:
        raise InputError(f"both sides must have features of one network, got widths {real.shape[-1]}, {fake.shape[-1]}")
