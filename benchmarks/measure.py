"""Targets measured in turns, each compared with the baseline of its own turn.

A shared machine changes its speed from second to second, so that only what is measured within one
turn is compared. The baseline runs twice a turn under two names: how far the two are apart is what
no difference below it means anything against.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median, quantiles
from typing import NamedTuple

AGAIN = "the same again (A/A)"


class Spread(NamedTuple):
    """The median of some numbers, with their quartiles."""

    median: float
    low: float
    high: float


class Sample(NamedTuple):
    """One measurement: what is compared, and what stands beside it."""

    value: float
    beside: Mapping[str, float] = {}


class Row(NamedTuple):
    """What was measured of one target.

    Attributes:
        value: what was measured, in the unit of the table.
        over: how much more than the baseline it was, within a turn.
        ratio: how many times the baseline it was, within a turn.
    """

    target: str
    value: Spread
    over: Spread
    ratio: Spread
    beside: dict[str, Spread]


def spread(numbers: list[float]) -> Spread:
    """Return the median and the quartiles of ``numbers``."""
    if len(numbers) < 2:
        return Spread(numbers[0], numbers[0], numbers[0])
    low, _, high = quantiles(numbers, n=4, method="inclusive")
    return Spread(median(numbers), low, high)


def interleave(
    targets: Mapping[str, Callable[[], Sample]], turns: int, *, warm_up: int = 1
) -> list[Row]:
    """Measure all targets ``turns`` times, in turns, after ``warm_up`` turns that do not count.

    Args:
        targets: what to call for one measurement. The first is the baseline; it is measured again
            as ``AGAIN``, unless that is among them.
        turns: how often.
        warm_up: how many turns to throw away first.
    """
    baseline = next(iter(targets))
    measures = {AGAIN: targets[baseline], **targets}
    names = list(measures)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for turn in range(-warm_up, turns):
        # Every target comes first as often as last.
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            sample = measures[name]()
            if turn >= 0:
                samples[name].append(sample)
    return [
        _row(name, samples[name], samples[baseline]) for name in dict.fromkeys([*targets, AGAIN])
    ]


def _row(name: str, samples: list[Sample], baseline: list[Sample]) -> Row:
    pairs = [(one.value, base.value) for one, base in zip(samples, baseline, strict=True)]
    return Row(
        name,
        spread([value for value, _ in pairs]),
        spread([value - base for value, base in pairs]),
        spread([value / base for value, base in pairs if base]),
        {key: spread([one.beside[key] for one in samples]) for key in samples[0].beside},
    )


def cpu_us(work: Callable[[], object], count: int) -> Sample:
    """Measure the CPU time, in microseconds, that each of the ``count`` units of ``work`` took."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time_ns()
        work()
        return Sample((time.process_time_ns() - start) / 1000 / count)
    finally:
        gc.enable()
