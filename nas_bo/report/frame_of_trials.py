"""A data frame whose loss is found by the name of version 0.1 too."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nas_bo.spelling import other, said_before


class Frame(pd.DataFrame):  # type: ignore[misc]  # pandas has no types here
    """A `pandas.DataFrame` that answers for `bits_per_byte` when it is asked for `val_loss`, with a DeprecationWarning."""

    @property
    def _constructor(self) -> object:
        return Frame

    def __getitem__(self, key: Any) -> object:
        also = other(key)
        if also is None or key in self.columns or also not in self.columns:
            return super().__getitem__(key)
        said_before(key, also)
        return super().__getitem__(also)
