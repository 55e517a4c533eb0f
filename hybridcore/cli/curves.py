"""Curves of traces, shared by the commands: estimated, tabulated, drawn."""

from __future__ import annotations

from argparse import ArgumentTypeError
from importlib.util import find_spec
from math import exp, log
from typing import TYPE_CHECKING, Any

from hybridcore.cli import UsageError, arguments
from hybridcore.units import size_in_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hybridcore.analytics import MissRatioCurve
    from hybridcore.cli.requests import Requests

POLICIES = ("learned", "lru", "lfu", "weights")
POINTS = 12
SMALLEST = 32
"""Entries of the smallest size in a table."""
MEMORY = 16 << 20
"""Bytes for small caches; there is no need to be as sparing as beside a cache that runs."""
PLOTS = (".png", ".svg", ".pdf")


def policy_options(name: str) -> dict[str, Any]:
    """What `Cache` is to be made with."""
    from hybridcore.eviction import Weights

    made = {"lru": Weights.lru(), "lfu": Weights.lfu(), "weights": Weights()}
    return {"weights": made[name]} if name in made else {}


def a_policy(text: str) -> str:
    """One of the policies."""
    if text not in POLICIES:
        raise ArgumentTypeError(f"expected one of {', '.join(POLICIES)}, got {text!r}")
    return text


def some_policies(text: str) -> list[str]:
    """Parse ``learned,lru``."""
    return [a_policy(name.strip()) for name in text.split(",")]


def a_number(text: str) -> float:
    """Any number."""
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a number, got {text!r}") from None


def some_sizes(text: str) -> list[str]:
    """Parse ``1000,64MiB,10%``; what a share is of is known later."""
    found = [part.strip() for part in text.split(",")]
    for part in found:
        if part.endswith("%"):
            share = a_number(part[:-1])
            if not 0 < share <= 100:
                raise ArgumentTypeError(f"expected a share above 0 % up to 100 %, got {part!r}")
        elif arguments.a_size(part) < 1:
            raise ArgumentTypeError(f"expected a size of at least 1, got {part!r}")
    return found


def in_bytes(requests: Requests, entries: bool) -> bool:
    """Whether the sizes of caches are in bytes."""
    return requests.sized and not entries


def size_of(text: str, whole: float) -> float:
    """A size as a number; a share is of the ``whole``."""
    if text.endswith("%"):
        return max(1.0, float(text[:-1]) / 100 * whole)
    return float(size_in_bytes(text))


def estimate(
    requests: Requests,
    policy: str,
    *,
    entries: bool = False,
    hit_ratio: float | None = None,
    share: float | None = None,
) -> MissRatioCurve:
    """The curve of a trace; ``hit_ratio`` and ``share`` tell where it matters most."""
    from hybridcore.analytics import Trace, trace_curve

    trace = Trace(
        requests.hashes,
        requests.sizes,
        requests.operations,
        requests.sample,
        requests.lookups,
        requests.mean_size,
    )
    return trace_curve(
        trace,
        policy,
        sized=in_bytes(requests, entries),
        hit_ratio=hit_ratio,
        share=share,
        memory=MEMORY,
        **policy_options(policy),
    )


def spread(curve: MissRatioCurve, whole: float, count: int) -> list[float]:
    """Sizes from small to the whole, each larger than the one before by the same factor."""
    first = min(max(SMALLEST * whole / max(curve.keys, 1), whole / 1000), whole)
    step = (log(whole) - log(first)) / (count - 1)
    return [exp(log(first) + number * step) for number in range(count)]


def describe(size: float, unit: str) -> str:
    """A size for people."""
    if unit == "entries":
        return f"{size:,.0f}"
    for name in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.3g} {name}"
        size /= 1024
    return f"{size:,.3g} GiB"


def check_plot(path: Path) -> None:
    """Refuse before the work what cannot be drawn after it."""
    if path.suffix not in PLOTS:
        raise UsageError(f"cannot draw {path}: expected {', '.join(PLOTS)}")
    if not find_spec("matplotlib"):
        raise UsageError("to draw, install matplotlib: pip install hybridcore[plot]")


def draw(path: Path, named: Sequence[tuple[str, MissRatioCurve]]) -> None:
    """Draw curves into a file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    for name, curve in named:
        xs, ys = _points(curve)
        axis.plot(xs, ys, label=f"{name}, {curve.policy}")
    axis.set(
        xscale="log",
        xlabel=f"size of the cache, {named[0][1].unit}",
        ylabel="miss ratio, %",
        ylim=(0, 100),
    )
    axis.grid(alpha=0.3)
    axis.legend()
    try:
        figure.savefig(path, dpi=100)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _points(curve: MissRatioCurve) -> tuple[list[float], list[float]]:
    whole = curve.bytes if curve.unit == "bytes" else curve.keys
    xs = spread(curve, max(whole, 2.0), 120)
    return xs, [100 * (1 - curve.hit_ratio(x)) for x in xs]
