"""The fourth latency model: no model. It answers with what was measured, or measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas_bo.errors import ProfileError
from nas_bo.hardware.latency.model import MadeByProfile
from nas_bo.hardware.measuring.measurement import Measurement
from nas_bo.hardware.runtimes.interface import Runtime
from nas_bo.hardware.workload import Setting
from nas_bo.model.counts import Arch
from nas_bo.objective import Value
from nas_bo.wording import counted, plural


class Measured(MadeByProfile):
    """Milliseconds as they were measured; where a runtime is given, of other architectures as well, which takes a second.

    Args:
        known: measurements by architecture.
        runtime_here: what measures an architecture that is not known, on the device that it names; None refuses.
        session: settings of `nas_bo.hardware.measuring.session.Session`.
    """

    how = "measured"

    def __init__(
        self,
        setting: Setting,
        known: Mapping[Any, Measurement] | None = None,
        *,
        device: str = "",
        runtime: str = "",
        runtime_here: Runtime | None = None,
        **session: Any,
    ) -> None:
        self.setting, self.device = setting, device
        self.runtime = runtime or ("" if runtime_here is None else runtime_here.name)
        self._known: dict[object, Measurement] = dict(known or {})
        self._here, self._session = runtime_here, session

    @property
    def measured(self) -> int:
        return len(self._known)

    def predict(self, arch: Arch) -> Value:
        """Milliseconds with the 95 % interval of the median.

        Raises:
            ProfileError: it was not measured, and nothing measures here.
            Unsupported: the runtime cannot run it.
        """
        found = self._of([arch])[0]
        return Value(
            found.median_ms,
            how=self.how,
            low=found.low_ms,
            high=found.high_ms if found.high_ms < math.inf else None,
            level=0.95,
            device=self.device or found.device,
            runtime=self.runtime,
            measured=self.measured,
            clock=found.clock,
            repeats=found.repeats,
            settled=found.settled,
        )

    def predict_many(self, architectures: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Milliseconds and half widths of their intervals, (n,) each; what is not known is measured interleaved."""
        found = self._of(architectures)
        half = [max(m.high_ms - m.median_ms, m.median_ms - m.low_ms) for m in found]
        return np.array([m.median_ms for m in found]), np.array(half)

    def _of(self, architectures: Sequence[Arch]) -> list[Measurement]:
        missing = list(dict.fromkeys(a for a in architectures if a not in self._known))
        if missing:
            if self._here is None:
                raise ProfileError(
                    f"{len(missing)} of {counted(len(architectures), 'architecture')} {plural(len(missing), 'was', 'were')} not measured on {self.device or 'this device'!r}; ask the "
                    "learned model, which answers for all, or measure them there"
                )
            from nas_bo.errors import Unsupported
            from nas_bo.hardware.measuring.session import Session, Wanted

            wanted = [Wanted(a, self.setting) for a in missing]
            outcome = Session(self._here, **self._session).measure(wanted)
            for one in wanted:
                if one.key in outcome.unsupported:
                    raise Unsupported(outcome.unsupported[one.key])
                self._known[one.arch] = outcome.measured[one.key]
        return [self._known[a] for a in architectures]
