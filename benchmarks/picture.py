"""What benchmarks/tftp.py has measured, as a picture: each server's rate beside dnsmasq's, and its CPU time."""

from pathlib import Path
from statistics import median
from typing import Any

Figures = dict[str, dict[str, list[dict[str, Any]]]]
"""Kind of work -> server -> one of the load's reports for each round."""

_COLOURS = {
    "bootfw": "#1f77b4",
    "bootfw, 2 workers": "#7fb2d9",
    "dnsmasq": "#8c8c8c",
    "tftpd-hpa": "#c9b28f",
    "atftpd": "#b48ead",
    "limit": "#2e3440",
}


def draw(figures: Figures, path: Path) -> None:
    """Write an SVG, PNG or PDF, by the ending of *path*. Black lines reach from the worst round to the best one.

    :raise ImportError: matplotlib is not installed: the extra ``benchmarks``.
    """
    from matplotlib.figure import Figure

    picture = Figure(figsize=(11, 1.6 + 0.75 * len(figures)), layout="constrained")
    rates, costs = picture.subplots(1, 2, sharey=True)
    pitch = 0.85 / max(map(len, figures.values()))
    for row, servers in enumerate(figures.values()):
        compared = beside(servers)
        unit = median(map(rate, servers[compared])) or 1.0
        for position, (name, rounds) in enumerate(servers.items()):
            at = row + pitch * (position - (len(servers) - 1) / 2)
            for axes, values in ((rates, [rate(r) / unit for r in rounds]), (costs, [cost(r) for r in rounds])):
                middle = median(values)
                spread = [[middle - min(values)], [max(values) - middle]]
                label = name if row == 0 and axes is rates else None
                axes.barh(at, middle, 0.9 * pitch, xerr=spread, color=_COLOURS[name], label=label, error_kw={"lw": 0.8})
    rates.axvline(1, color="black", lw=0.6)
    rates.set_yticks(range(len(figures)), list(figures))
    rates.invert_yaxis()
    rates.set_xlabel("rate, dnsmasq = 1 (atftpd = 1 where dnsmasq has no windows)")
    costs.set_xlabel("the server's CPU time: ms a file, or a missing one")
    costs.set_xscale("log")
    picture.legend(loc="outside upper center", ncols=5, frameon=False)
    picture.savefig(path)


def beside(servers: dict[str, Any]) -> str:
    """The server whose rate is 1."""
    return next((name for name in ("dnsmasq", "atftpd") if name in servers), next(iter(servers)))


def rate(figure: dict[str, Any]) -> float:
    """Megabytes a second; of missing files, answers."""
    amount = figure["bytes"] / 1e6 if figure["bytes"] else figure["done"]
    return float(amount / figure["seconds"])


def cost(figure: dict[str, Any]) -> float:
    """Milliseconds of the server for each file."""
    return float(figure["server_cpu"] * 1e3 / max(1, figure["done"]))
