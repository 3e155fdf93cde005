"""This server among the nodes of its cluster: which there are, and whether they serve the same files."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from bootfw.net.nodes.announcements import Announcements
from bootfw.net.nodes.filecomparison import FileComparison
from bootfw.net.nodes.presence import Presence


class Cluster(Service):
    """Announces this node while it runs, and knows the others.

    :param reactor: IReactorTime.
    :param describe: see Presence.
    :param roots: see FileComparison.
    """

    def __init__(
        self,
        reactor: Any,
        announcements: Announcements,
        describe: Callable[[], Mapping[str, Any]],
        roots: Callable[[], Iterable[Path]],
    ) -> None:
        self._announcements = announcements
        self._presence = Presence(reactor, announcements, describe)
        self._comparison = FileComparison(reactor, announcements, self._presence.here, roots)

    def startService(self) -> None:
        """Announce this node from now on."""
        super().startService()  # type: ignore[no-untyped-call]
        self._presence.start()

    def stopService(self) -> None:
        """Say goodbye."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._presence.stop()
        self._comparison.close()

    @property
    def has_others(self) -> bool:
        """Whether another node was heard lately."""
        return bool(self._presence.here())

    def record(self) -> Mapping[str, Any]:
        """Return "nodes", see Presence.nodes(), and "behind": the seconds since an announcement of this node got
        through to the store; None: none has."""
        behind = self._announcements.behind
        return {"nodes": list(self._presence.nodes()), "behind": None if behind is None else round(behind, 1)}

    def compare_files(self, given: Mapping[str, Any]) -> "Deferred[Sequence[Mapping[str, Any]]]":
        """Compare the files of all nodes; see Operation and FileComparison.compare(), whose nodes get their names."""
        names = {row["node"]: row["name"] for row in self._presence.nodes()}

        def named(records: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
            *files, summary = records
            shown: list[Mapping[str, Any]] = [
                {**record, "versions": {names.get(node, node): text for node, text in record["versions"].items()}}
                for record in files
            ]
            lists = {kind: sorted(names.get(node, node) for node in summary[kind]) for kind in ("compared", "silent")}
            return [*shown, {**summary, **lists}]

        return self._comparison.compare().addCallback(named)
