"""Pictures of what the benchmarks have measured: curves of storm.py and overload.py, bars of tftp.py.

They need matplotlib (the extra ``benchmarks``), and are SVG, PNG or PDF, by the ending of their path.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from attrs import frozen

Figures = dict[str, dict[str, list[dict[str, Any]]]]
"""Kind of work -> server -> one of the load's reports for each round."""

COLOURS = {
    "bootfw": "#1f77b4",
    "bootfw, 2 workers": "#7fb2d9",
    "bootfw, probing": "#7fb2d9",
    "dnsmasq": "#8c8c8c",
    "tftpd-hpa": "#c9b28f",
    "atftpd": "#b48ead",
    "kea": "#c9772f",
    "nginx": "#4c9a52",
    "limit": "#2e3440",
}


@frozen
class Point:
    """A measurement in a panel of curves."""

    x: float
    y: float
    note: str = ""
    """What was not reached, such as "849 of 1,000"; the marker of the point is a cross."""


@frozen
class Panel:
    """Curves of several servers over the same work."""

    title: str
    curves: dict[str, Sequence[Point]]
    """By server."""
    x_label: str
    y_label: str
    logarithmic: bool = False
    limit: Sequence[Point] = ()
    """A dotted line: what no server can exceed."""


def draw_panels(
    panels: Sequence[Sequence[Panel]], path: Path, title: str, x_ticks: Sequence[int] = (), one_scale: bool = True
) -> None:
    """Draw rows of panels.

    :param x_ticks: values that x has in every panel; (): matplotlib chooses.
    :param one_scale: the panels of a row have the same scale of y.
    :raise ImportError: matplotlib is not installed: the extra ``benchmarks``.
    """
    from matplotlib.figure import Figure

    columns = max(map(len, panels))
    picture = Figure(figsize=(1 + 4.6 * columns, 0.8 + 3.3 * len(panels)), layout="constrained")
    picture.suptitle(title)
    grid = picture.subplots(len(panels), columns, sharey="row" if one_scale else False, squeeze=False)
    lines_by_server: dict[str, Any] = {}
    for row, axes_row in zip(panels, grid, strict=True):
        for axes in axes_row[len(row) :]:
            axes.set_visible(False)
        for number, (panel, axes) in enumerate(zip(row, axes_row, strict=False)):
            if panel.limit:
                axes.plot([each.x for each in panel.limit], [each.y for each in panel.limit], ":", color="#bbbbbb")
            for server, curve in panel.curves.items():
                if not curve:
                    continue
                xs, ys = [each.x for each in curve], [each.y for each in curve]
                (line,) = axes.plot(xs, ys, marker="o", markersize=4, color=COLOURS[server], label=server)
                lines_by_server.setdefault(server, line)
                for each in curve:
                    if each.note:
                        axes.plot(each.x, each.y, "X", markersize=9, color=COLOURS[server])
                        text_position = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
                        axes.annotate(
                            each.note, (each.x, each.y), **text_position, fontsize="x-small", color=COLOURS[server]
                        )
            if panel.logarithmic:
                axes.set(xscale="log", yscale="log")
            axes.set_title(panel.title, fontsize="small")
            axes.set_xlabel(panel.x_label, fontsize="small")
            if number == 0:
                axes.set_ylabel(panel.y_label, fontsize="small")
            if x_ticks:
                axes.set_xlim(min(x_ticks) / 1.2, max(x_ticks) * 1.2)
                axes.set_xticks(x_ticks, [f"{tick:,}" for tick in x_ticks])
                axes.minorticks_off()
            if panel.logarithmic:
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.margins(y=0.15)
            axes.grid(alpha=0.3)
    picture.legend(
        lines_by_server.values(),
        lines_by_server,
        loc="outside lower center",
        ncols=len(lines_by_server) or 1,
        frameon=False,
    )
    picture.savefig(path)


def draw_bars(figures: Figures, path: Path) -> None:
    """Draw each server's rate beside dnsmasq's, and its CPU time. Black lines reach from the worst round to the best.

    :raise ImportError: matplotlib is not installed: the extra ``benchmarks``.
    """
    from matplotlib.figure import Figure

    picture = Figure(figsize=(11, 1.6 + 0.75 * len(figures)), layout="constrained")
    rates, costs = picture.subplots(1, 2, sharey=True)
    pitch = 0.85 / max(map(len, figures.values()))
    for row, servers in enumerate(figures.values()):
        reference = reference_server(servers)
        unit = median(map(rate, servers[reference])) or 1.0
        for position, (name, rounds) in enumerate(servers.items()):
            center = row + pitch * (position - (len(servers) - 1) / 2)
            for axes, values in (
                (rates, [rate(figure) / unit for figure in rounds]),
                (costs, [cost(figure) for figure in rounds]),
            ):
                middle = median(values)
                spread = [[middle - min(values)], [max(values) - middle]]
                label = name if row == 0 and axes is rates else None
                axes.barh(
                    center, middle, 0.9 * pitch, xerr=spread, color=COLOURS[name], label=label, error_kw={"lw": 0.8}
                )
    rates.axvline(1, color="black", lw=0.6)
    rates.set_yticks(range(len(figures)), list(figures))
    rates.invert_yaxis()
    rates.set_xlabel("rate, dnsmasq = 1 (atftpd = 1 where dnsmasq has no windows)")
    costs.set_xlabel("the server's CPU time: ms a file, or a missing one")
    costs.set_xscale("log")
    picture.legend(loc="outside upper center", ncols=5, frameon=False)
    picture.savefig(path)


def reference_server(servers: dict[str, Any]) -> str:
    """The server whose rate is 1."""
    return next((name for name in ("dnsmasq", "atftpd") if name in servers), next(iter(servers)))


def rate(figure: dict[str, Any]) -> float:
    """Megabytes a second; of missing files, answers."""
    amount = figure["bytes"] / 1e6 if figure["bytes"] else figure["done"]
    return float(amount / figure["seconds"])


def cost(figure: dict[str, Any]) -> float:
    """Milliseconds of the server for each file."""
    return float(figure["server_cpu"] * 1e3 / max(1, figure["done"]))
