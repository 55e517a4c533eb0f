"""What the policies get to see of a trace, and what their misses tell about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from bench.references import Requests

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from bench.policies import Policy
    from bench.traces import Trace

COST_SIGMA = 1.0  # of the log-normal costs that are drawn where a trace has none
STEADY = 0.9  # share of a phase's lasting hit ratio that counts as having recovered


@dataclass
class Cell:
    """One trace at one size: ``ratios[policy][measure]`` is the share that was hit.

    ``recoveries[policy]`` has for each change of phase what `recovery` returns; ``failed[policy]``
    tells why there is no ratio.
    """

    trace: str
    requests: int
    unique: int
    fraction: float
    capacity: int
    ratios: dict[str, dict[str, float]] = field(default_factory=dict)
    recoveries: dict[str, list[tuple[int | None, float]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def make_requests(
    trace: Trace, units: Collection[str], seed: int, sigma: float | None = None
) -> Requests:
    """What the policies get to see of a trace, and what a hit is worth.

    With the unit "cost" and a ``sigma``, costs are drawn even where the trace has its own.
    """
    ones = np.ones(len(trace.keys))
    gains = {"objects": ones}
    sizes = np.ones_like(trace.keys)
    costs = ones
    if "bytes" in units:
        assert trace.sizes is not None
        sizes = trace.sizes
        gains["bytes"] = sizes.astype(np.float64)
    if "cost" in units:
        if trace.costs is None or sigma is not None:
            costs = drawn_costs(trace, seed, COST_SIGMA if sigma is None else sigma)
        else:
            costs = trace.costs
        gains["cost"] = costs
    return Requests(trace.keys.tolist(), sizes.tolist(), costs.tolist(), gains)


def drawn_costs(trace: Trace, seed: int, sigma: float) -> np.ndarray:
    """A log-normal cost for each key."""
    rng = Random(seed)
    print(f"the costs of {trace.name} are drawn, log-normal with sigma {sigma:g}")
    costs = np.array([rng.lognormvariate(0, sigma) for _ in range(trace.unique)])
    return costs[trace.keys]


def score(
    requests: Requests, changes: Sequence[int], cells: dict[float, Cell], task: tuple[Policy, float]
) -> tuple[dict[str, float], list[tuple[int | None, float]]]:
    """Replay; return under each measure the share that was hit, and how each change was taken."""
    policy, fraction = task
    cell = cells[fraction]
    once = None if policy.offline else policy.replay(requests, cell.capacity)
    missed = {
        measure: policy.replay(requests, cell.capacity, gains) if once is None else once
        for measure, gains in requests.gains.items()
    }
    ratios = {measure: share(requests.gains[measure], lost) for measure, lost in missed.items()}
    hits = np.ones(len(requests.keys))
    hits[missed["objects"]] = 0
    turnover = int(fraction * cell.unique)
    phases = pairwise([*changes, len(hits)])
    return ratios, [recovery(hits[begin:end], turnover) for begin, end in phases]


def share(gains: np.ndarray, missed: list[int]) -> float:
    """What the hits are worth, as a share of all requests' worth."""
    return float(1 - gains[missed].sum() / gains.sum())


def recovery(hits: np.ndarray, turnover: int) -> tuple[int | None, float]:
    """How fast a policy takes a new phase: turnovers to its lasting hit ratio, and that ratio.

    A turnover is as many requests as the cache holds entries. It lasts what is hit in the second
    half of the phase; counted are the turnovers up to the first with `STEADY` of that. None if the
    phase has no such turnover, or nothing lasts.
    """
    lasting = float(hits[len(hits) // 2 :].mean())
    if not lasting:
        return None, lasting
    whole = hits[: len(hits) // turnover * turnover].reshape(-1, turnover).mean(axis=1)
    (reached,) = np.nonzero(whole >= STEADY * lasting)
    return (int(reached[0]) + 1 if len(reached) else None), lasting
