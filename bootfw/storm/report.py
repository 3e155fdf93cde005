"""The summary of a storm: a table for people, JSON, and a picture."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from bootfw.storm.driver import Effort, Outcome
from bootfw.storm.sockets import StormError

PERCENTILES = (50, 90, 99)


@frozen
class StageSummary:
    """One stage of all machines of one boot. Times are in seconds."""

    boot: str
    stage: str
    machines: int
    """Machines that began the stage."""
    completed: int
    retries: int
    """Packets sent again, by all of them."""
    retried: int
    """Machines that sent at least one packet again."""
    most_retries: int
    """Of one machine."""
    bytes: int
    percentiles: tuple[float, ...]
    """PERCENTILES of the times of those that completed it."""
    longest: float


@frozen
class Summary:
    """A whole storm."""

    machines: int
    booted: int
    failed: int
    unfinished: int
    """Machines that had neither booted nor failed when the storm ended."""
    seconds: float
    """From the first machine's power-on until the last one was over."""
    boot_percentiles: tuple[float, ...]
    """PERCENTILES of the whole boots that were completed."""
    longest: float
    failures: Mapping[str, int]
    """Reason -> number of machines."""
    stages: tuple[StageSummary, ...]
    efforts: tuple[Effort, ...]
    """Of each process of the simulator."""

    @property
    def limited(self) -> bool:
        """Whether the simulator was itself the limit."""
        return any(effort.limited for effort in self.efforts)


def summarize(outcomes: Sequence[Outcome], efforts: Sequence[Effort]) -> Summary:
    """Summarize the results of the machines."""
    booted = [outcome for outcome in outcomes if outcome.booted]
    failed = [outcome for outcome in outcomes if outcome.failure]
    times = sorted(outcome.ended - outcome.began for outcome in booted if outcome.ended is not None)
    ends = [outcome.ended for outcome in outcomes if outcome.ended is not None]
    return Summary(
        len(outcomes),
        len(booted),
        len(failed),
        len(outcomes) - len(booted) - len(failed),
        max(ends, default=0.0),
        percentiles(times),
        max(times, default=0.0),
        dict(Counter(outcome.failure for outcome in failed).most_common()),
        tuple(_stages(outcomes)),
        tuple(efforts),
    )


def percentiles(times: Sequence[float]) -> tuple[float, ...]:
    """Return the PERCENTILES of *times*, which are sorted. For 90, it is the smallest time that at least 90 % of them
    do not exceed."""
    if not times:
        return (0.0,) * len(PERCENTILES)
    return tuple(times[min(len(times) - 1, -(-len(times) * percent // 100) - 1)] for percent in PERCENTILES)


def _stages(outcomes: Iterable[Outcome]) -> Iterable[StageSummary]:
    found: dict[tuple[str, str], list[Any]] = {}
    for outcome in outcomes:
        for stage in outcome.stages:
            found.setdefault((outcome.boot, stage.name), []).append(stage)
    for (boot, name), stages in found.items():
        times = sorted(stage.ended - stage.began for stage in stages if stage.ended is not None)
        retries = [stage.retries for stage in stages]
        yield StageSummary(
            boot,
            name,
            len(stages),
            len(times),
            sum(retries),
            sum(1 for retry in retries if retry),
            max(retries),
            sum(stage.bytes for stage in stages),
            percentiles(times),
            max(times, default=0.0),
        )


def table(summary: Summary) -> list[str]:
    """Return the lines of the report that people read."""
    lines = [
        f"{summary.booted} of {summary.machines} machines booted in {summary.seconds:.1f} s; "
        f"{summary.failed} failed, {summary.unfinished} had not finished",
    ]
    if summary.booted:
        times = ", ".join(
            f"{percent} %: {value:.2f} s" for percent, value in zip(PERCENTILES, summary.boot_percentiles, strict=True)
        )
        lines.append(f"whole boots: {times}, longest {summary.longest:.2f} s")
    lines += [f"  {count} x {reason}" for reason, count in summary.failures.items()]
    head = ("stage", "machines", "done", "retries", *(f"{percent} %" for percent in PERCENTILES), "longest", "MB")
    rows = [head]
    boots = {stage.boot for stage in summary.stages}
    for stage in summary.stages:
        name = stage.stage if len(boots) == 1 else f"{stage.boot}: {stage.stage}"
        again = f"{stage.retries} of {stage.retried}" if stage.retries else "0"
        times_of = [f"{value:.2f}" for value in (*stage.percentiles, stage.longest)]
        rows.append((name, str(stage.machines), str(stage.completed), again, *times_of, f"{stage.bytes / 1e6:.1f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.append(_effort(summary))
    return lines


def _effort(summary: Summary) -> str:
    busiest = max((effort.processor_share for effort in summary.efforts), default=0.0)
    lag = max((effort.lag for effort in summary.efforts), default=0.0)
    dropped = sum(effort.dropped for effort in summary.efforts)
    text = (
        f"simulator: at most {busiest:.0%} of a processor, timers {lag * 1000:.0f} ms late, {dropped} packets dropped"
    )
    return f"{text}: IT WAS THE LIMIT, not the server" if summary.limited else text


def as_json(summary: Summary, outcomes: Sequence[Outcome] = ()) -> dict[str, Any]:
    """Return the report as a JSON document.

    :param outcomes: included as they are; empty: only the summary.
    """
    document = attrs.asdict(summary)
    document["limited"] = summary.limited
    document["percents"] = list(PERCENTILES)
    if outcomes:
        document["outcomes"] = [attrs.asdict(outcome) for outcome in outcomes]
    return document


def plot(outcomes: Sequence[Outcome], path: Path, title: str) -> None:
    """Draw the number of machines in each stage over time.

    :param path: .svg, .png or .pdf.
    :raise StormError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise StormError("a picture needs matplotlib: pip install 'bootfw[benchmarks]'") from None
    end = max([outcome.ended or 0.0 for outcome in outcomes], default=0.0) or 1.0
    moments = [end * step / 400 for step in range(401)]
    names: dict[str, list[int]] = {}
    booted = [0] * len(moments)
    failed = [0] * len(moments)
    for outcome in outcomes:
        for stage in outcome.stages:
            counts = names.setdefault(stage.name, [0] * len(moments))
            until = stage.ended if stage.ended is not None else (outcome.ended or end)
            for at in range(_first(stage.began, end), _first(until, end)):
                counts[at] += 1
        if outcome.ended is not None:
            for at in range(_first(outcome.ended, end), len(moments)):
                (booted if outcome.booted else failed)[at] += 1
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    labels = [*names, "booted", "failed"]
    axes.stackplot(moments, *names.values(), booted, failed, labels=labels)
    axes.set(xlabel="seconds", ylabel="machines", title=title, xlim=(0, end), ylim=(0, len(outcomes)))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
    figure.savefig(path)


def _first(moment: float, end: float) -> int:
    """Return the index of the first of the 401 moments of plot() that is not before *moment*."""
    return min(400, max(0, -(-int(moment / end * 400_000) // 1000)))
