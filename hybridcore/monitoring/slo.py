"""`Slo`: an objective, its error budget, and how fast that burns, over several windows at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from hybridcore.errors import ConfigurationError
from hybridcore.exporters.metrics import BOUNDS
from hybridcore.monitoring.signals import Increase, Least, Share, Signal
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from hybridcore.monitoring.signals import History

KINDS = ("latency", "availability", "freshness", "hit_ratio")


class Burn(NamedTuple):
    """An alert on two windows of seconds, both of which burn the budget so many times too fast."""

    name: str
    short: float
    long: float
    factor: float
    severity: Literal["page", "ticket"]
    lasting: float = 0.0


BURNS = (
    Burn("Fast", 300, 3600, 14.4, "page"),
    Burn("Slow", 1800, 21600, 6.0, "page"),
    Burn("Slower", 7200, 86400, 3.0, "ticket"),
    Burn("Slowest", 21600, 259200, 1.0, "ticket"),
)
"""Windows and rates of the Site Reliability Workbook, chapter 5."""

OUTAGE = 0.2
"""Share of bad requests within a minute that is an outage, whatever the budget."""


@dataclass(frozen=True)
class Slo:
    """A share of lookups that is to be good: of those that missed memory, or of all.

    - ``"latency"``: those that took at most ``threshold``, a bound of the exported buckets
    - ``"availability"``: those that did not end in an error
    - ``"freshness"``: those that were not answered with a stale copy
    - ``"hit_ratio"``: of all lookups, those that did not ask the origin

    >>> Slo("latency", objective=0.99, threshold="50ms").budget
    0.01

    Raises:
        ConfigurationError: of another kind, the objective is not between 0 and 1, or there is no
            bucket for the threshold.
    """

    name: str
    objective: float
    threshold: Duration | None = None

    def __post_init__(self) -> None:
        if self.name not in KINDS:
            raise ConfigurationError(f"expected an SLO of {', '.join(KINDS)}, got {self.name!r}")
        objective = self.objective
        if isinstance(objective, bool) or not isinstance(objective, int | float):
            raise ConfigurationError(f"objective is to be a number, got {objective!r}")
        if not 0 < objective < 1:
            raise ConfigurationError(
                f"objective is to be between 0 and 1, such as 0.99, got {objective!r}"
            )
        if (self.name == "latency") != (self.threshold is not None):
            raise ConfigurationError("threshold is for latency, and latency needs one")
        if self.threshold is not None and seconds(self.threshold) not in BOUNDS:
            known = ", ".join(f"{bound:g}" for bound in BOUNDS)
            raise ConfigurationError(
                f"threshold is to be one of the buckets, {known} seconds, got {self.threshold!r}"
            )

    @property
    def budget(self) -> float:
        """The share that may be bad."""
        return round(1 - self.objective, 12)

    def bad(self, window: float) -> Signal:
        """The share of bad lookups within so many seconds."""
        if self.name == "hit_ratio":
            asked = Increase("hybridcore_requests_total", window, {"tier": "origin"})
            return Share(
                asked, Increase("hybridcore_requests_total", window, {"tier": "memory"}), 10
            )
        name = "hybridcore_request_duration_seconds"
        whole = Increase(name + "_count", window, {"tier": "all"})
        if self.threshold is not None:
            within = {"tier": "all", "le": str(seconds(self.threshold))}
            return Share(Increase(name + "_bucket", window, within), whole, 10, rest=True)
        result = {"availability": "error", "freshness": "stale"}[self.name]
        return Share(
            Increase(name + "_count", window, {"tier": "all", "result": result}), whole, 10
        )

    def spent(self, history: History, window: Duration = "3d") -> float | None:
        """The part of the budget of such a window that is used up; above 1: the SLO is violated."""
        share = self.bad(seconds(window)).value(history)
        return None if share is None else share / self.budget

    def burns(self) -> tuple[Burn, ...]:
        """Its alerts: those that this budget can trigger, and one on outages within a minute."""
        possible = (burn for burn in BURNS if burn.factor * self.budget < 1)
        outage = max(OUTAGE, (1 + self.budget) / 2 if self.budget > OUTAGE / 2 else 0.0)
        return (Burn("Outage", 60, 60, outage / self.budget, "page", 30), *possible)

    def bound(self, burn: Burn) -> float:
        """The share of bad lookups from which on the budget burns so fast."""
        return burn.factor * self.budget

    def burn(self, burn: Burn) -> Signal:
        """The share of bad lookups, the lower one of both windows."""
        if burn.short == burn.long:
            return self.bad(burn.short)
        return Least(self.bad(burn.short), self.bad(burn.long))

    def alert_name(self, burn: str) -> str:
        """What the alert is called."""
        return f"{self.title}Burns{burn}"

    @property
    def title(self) -> str:
        """Its name as part of the names of alerts."""
        return self.name.title().replace("_", "")
