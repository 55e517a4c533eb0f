"""`forecast`: where a series of measurements goes, and how sure that is.

Without extras a robust straight line: the median of the slopes between all pairs of points (H.
Theil, 1950), with the interval for it of P. Sen (1968), and the spread of what is left around it.
With a period, and the extra ``forecast`` installed, the season is taken out first by the robust STL
of statsmodels (R. Cleveland and others, 1990), and put on again.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_POINTS = 256
POINTS_A_PERIOD = 48
FEWEST_PERIODS = 2
STEPS = 24
"""Points of a forecast."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected at ``times``, in seconds like those given: between ``lower`` and ``upper``
    with a probability of ``level``.

    ``per_hour`` is the growth that the whole of the data shows; ``model`` is "theil-sen" or "stl".
    """

    times: tuple[float, ...]
    values: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    level: float
    per_hour: float
    model: str

    def reaches(self, value: float) -> float | None:
        """The first time at which it is expected to be that much; None: not within the forecast."""
        for time, expected in zip(self.times, self.values, strict=True):
            if expected >= value:
                return time
        return None


def forecast(
    times: Sequence[float],
    values: Sequence[float],
    horizon: float,
    *,
    level: float = 0.9,
    period: float | None = None,
    most_points: int = MOST_POINTS,
) -> Forecast:
    """Continue a series for ``horizon`` seconds beyond its last point. O(most_points ** 2).

    Args:
        level: how likely what comes is to be within the interval.
        period: seconds after which the series is expected to repeat itself, such as 86400. It is
            used if there are two such periods of data, and statsmodels is installed.
        most_points: that the line is drawn through; of more, some evenly spread.

    Raises:
        ConfigurationError: fewer than three points, or times that do not rise.
    """
    at, seen = np.asarray(times, float), np.asarray(values, float)
    if len(at) < 3 or len(at) != len(seen) or not (np.diff(at) > 0).all():
        raise ConfigurationError(
            f"a forecast needs three points or more whose times rise, got {len(at)}"
        )
    if not 0 < level < 1 or not horizon > 0:
        raise ConfigurationError(
            f"level is expected between 0 and 1 and horizon above 0, got {level!r} and {horizon!r}"
        )
    ahead = at[-1] + horizon * np.arange(1, STEPS + 1) / STEPS
    seasonal = (
        period is not None
        and at[-1] - at[0] >= FEWEST_PERIODS * period
        and find_spec("statsmodels") is not None
    )
    season = _season(at, seen, ahead, period) if seasonal and period is not None else (0.0, 0.0)
    slope, line = _line(at, seen - season[0], ahead, level, most_points)
    expected, lower, upper = (tuple((column + season[1]).tolist()) for column in line)
    return Forecast(
        times=tuple(ahead.tolist()),
        values=expected,
        lower=lower,
        upper=upper,
        level=level,
        per_hour=slope * 3600,
        model="stl" if seasonal else "theil-sen",
    )


def _line(
    at: Any, seen: Any, ahead: Any, level: float, most_points: int
) -> tuple[float, tuple[Any, Any, Any]]:
    """The slope, and the line with its interval."""
    if len(at) > most_points:
        chosen = np.unique(np.linspace(0, len(at) - 1, most_points).astype(int))
        at, seen = at[chosen], seen[chosen]
    count = len(at)
    first, second = np.triu_indices(count, 1)
    slopes = np.sort((seen[second] - seen[first]) / (at[second] - at[first]))
    slope = float(np.median(slopes))
    middle = float(np.median(at))
    start = float(np.median(seen - slope * (at - middle)))
    left = seen - start - slope * (at - middle)
    tail = (1 - level) / 2
    spread = NormalDist().inv_cdf(1 - tail) * (count * (count - 1) * (2 * count + 5) / 18) ** 0.5
    low = slopes[max(0, int((len(slopes) - spread) / 2))]
    high = slopes[min(len(slopes) - 1, int((len(slopes) + spread) / 2) + 1)]
    # A few points show less than their whole spread.
    below, above = np.quantile(left, [tail, 1 - tail]) * (1 + 2 / count)
    since = ahead - middle
    expected = start + slope * since
    return slope, (expected, start + low * since + below, start + high * since + above)


def _season(at: Any, seen: Any, ahead: Any, period: float) -> tuple[Any, Any]:
    """What the season adds to each value seen, and to those ahead."""
    from statsmodels.tsa.seasonal import STL  # type: ignore[import-untyped, unused-ignore]

    step = period / POINTS_A_PERIOD
    count = int((at[-1] - at[0]) / step) + 1
    grid = at[-1] - step * np.arange(count - 1, -1, -1)
    found = STL(np.interp(grid, at, seen), period=POINTS_A_PERIOD, robust=True).fit().seasonal
    last = at[-1] - period
    return np.interp(at, grid, found), np.interp(last + (ahead - last) % period, grid, found)
