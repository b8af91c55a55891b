"""The user's space with more fields: for strategies one space, for the user's rules and objectives still their own."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from nas_bo.space import Space
from nas_bo.space.extend import rules_on_base

KEPT_SPACES = 256  # derived spaces that are remembered; each study has a few

_made: OrderedDict[tuple[type[Space] | None, str], type[Space]] = OrderedDict()
_lock = threading.Lock()


def derived(base: type[Space] | None, fields: Mapping[str, Any]) -> type[Space]:
    """The space `base` with more fields; the same object for the same fields, since strategies remember by space.

    Rules of `base` still apply to architectures of `base`.
    """
    if base is not None and not fields:
        return base
    key = (base, repr(fields))
    with _lock:
        if key not in _made:
            if base is None:
                _made[key] = Space.of("OptunaParameters", **fields)
            else:
                _made[key] = Space.of(f"{base.title} and more", rules_on_base(base), **base._fields, **fields)
            while len(_made) > KEPT_SPACES:
                _made.popitem(last=False)
        return _made[key]
