"""Takes a device out of service that fails again and again, and tries from time to time whether it is well again."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Breaker:
    """The record of one device. Times are seconds on one clock.

    A package that crashes by itself is given up by the queue and says nothing against the device. So a device is taken
    out when it does not start, or when runs of different packages died on it one after another, ``patience`` times.
    """

    patience: int
    probe_seconds: float  #: out of service for so long before it is tried again
    out_since: float | None = field(default=None)
    why: str = field(default="")
    _failed: list[str | None] = field(default_factory=list)  #: packages; None: the device did not start

    def failed(self, package: str | None, why: str, now: float) -> bool:
        """Note that the process died in a run of a package, or while starting. Returns whether the device goes out."""
        self._failed.append(package)
        if self.out_since is not None:
            self.out_since = now  # the trial failed
            return False
        last = self._failed[-self.patience :]
        self._failed = last
        if len(last) < self.patience or (None not in last and len(set(last)) < 2):
            return False
        self.out_since, self.why = now, why
        return True

    def worked(self) -> bool:
        """Note a run that ended by itself. Returns whether the device comes back by it."""
        self._failed.clear()
        back, self.out_since, self.why = self.out_since is not None, None, ""
        return back

    def may_start(self, now: float) -> bool:
        """Whether it should be started, for service or on trial."""
        return self.out_since is None or now - self.out_since >= self.probe_seconds
