"""A made-up service with days and weeks: whom it serves when, and what belongs together.

Three kinds of requests. Browsing: keys by a Zipf law, at a rate that follows the hour and the day
of the week. Sessions: a page, and within seconds the parts that belong to it. Reports: sets of keys
that jobs read at their time of day, on every day, on weekdays or once a week.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DAY = 86_400.0
BEGIN = 1_704_067_200.0  # a Monday, at midnight UTC


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests in order: seconds since the epoch, and keys."""

    name: str
    times: np.ndarray
    keys: np.ndarray


def rate_of_day(hours: np.ndarray) -> np.ndarray:
    """Traffic by hour of the week, 1 on average: low at night, half at weekends."""
    of_day = 1 + 0.85 * np.sin((hours % 24 - 9.0) / 24 * 2 * np.pi)
    weekend = np.where((hours // 24) % 7 >= 5, 0.5, 1.0)
    return of_day * weekend / 0.857


def generate(
    days: int = 10,
    rate: float = 2.0,
    *,
    keys: int = 3_000,
    zipf: float = 1.0,
    pages: int = 400,
    parts: int = 5,
    sessions: float = 0.02,
    reports: int = 150,
    seed: int = 1,
) -> Workload:
    """Make the requests of so many days; ``rate`` and ``sessions`` are per second, on average."""
    random = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    by_hour = rate_of_day(hours)

    def moments(per_second: float) -> np.ndarray:
        counts = random.poisson(per_second * 3600 * by_hour)
        return np.repeat(hours, counts) * 3600.0 + random.random(counts.sum()) * 3600

    def by_zipf(count: int, size: int) -> np.ndarray:
        weights = 1 / np.arange(1, count + 1) ** zipf
        return random.choice(count, size, p=weights / weights.sum())

    at = moments(rate)
    times = [at]
    chosen = [by_zipf(keys, at.size)]
    starts = moments(sessions)
    page = by_zipf(pages, starts.size)
    for part in range(parts + 1):
        stays = random.random(starts.size) < 0.95 if part else np.ones(starts.size, bool)
        delay = part * 2.0 + random.random(starts.size) * 1.5
        times.append((starts + delay)[stays])
        chosen.append((keys + page * (parts + 1) + part)[stays])
    first = keys + pages * (parts + 1)
    for report in range(reports):
        hour = random.uniform(0, 24)
        kind = random.choice(3, p=[0.5, 0.35, 0.15])
        read = int(random.integers(4, 12))
        for day in range(days):
            if (kind == 1 and day % 7 >= 5) or (kind == 2 and day % 7 != report % 7):
                continue
            begin = day * DAY + hour * 3600 + random.normal(0, 30)
            times.append(begin + np.arange(read) * 0.5)
            chosen.append(first + report * 16 + np.arange(read))
    all_times = np.concatenate(times)
    order = np.argsort(all_times, kind="stable")
    return Workload(
        f"{days} days", BEGIN + all_times[order], np.concatenate(chosen)[order].astype(np.int64)
    )


def unpredictable(requests: int = 300_000, *, keys: int = 200_000, seed: int = 1) -> Workload:
    """Keys drawn evenly from many, where nothing can be learned."""
    random = np.random.default_rng(seed)
    times = np.sort(random.random(requests)) * DAY
    return Workload("unpredictable", BEGIN + times, random.integers(0, keys, requests))
