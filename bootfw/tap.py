"""``twistd bootfw``: the command line."""

import gc
import json
import os
import pwd
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from socket import AF_INET, AF_INET6
from types import TracebackType
from typing import Any, NoReturn

import attrs
from twisted.application.service import IService, MultiService
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver, Logger
from twisted.python import usage

from bootfw import __version__
from bootfw.bootchain import ends_at_ipxe
from bootfw.build import Parts, files_by_tftp, load_parts, settle
from bootfw.config import defaults
from bootfw.config.configuration import ConfigErrors, Configuration
from bootfw.config.settings import HTTPSettings, Settings
from bootfw.config.state import state_directory
from bootfw.errors import ConfigError, StateError
from bootfw.net.clock import monotonic
from bootfw.net.draining import DRAIN_WITHIN, Draining
from bootfw.net.http.tls import tls
from bootfw.net.inheritedsockets import (
    InheritedSocket,
    check_used,
    close_unwanted,
    inherited_sockets,
    restore_variables,
)
from bootfw.net.linux.interfaces import address_on, missing_interfaces
from bootfw.net.linux.openfiles import allow_many_files
from bootfw.net.linux.privileges import (
    become,
    clear_ambient_capabilities,
    give_directory,
    keep_capabilities,
    restrict_capabilities,
)
from bootfw.net.listening import Listening
from bootfw.observe.log import LogObserver
from bootfw.observe.logoutput import JournalLog, LinesLog, open_log
from bootfw.observe.metrics import add_metrics
from bootfw.plugins import PluginRow, list_plugins
from bootfw.power import power_mistakes
from bootfw.reload import Reload
from bootfw.service import BootService
from bootfw.status import add_status
from bootfw.supervision import add_supervision
from bootfw.terminal import aligned, escape_unencodable
from bootfw.values import Address, address_text
from bootfw.web import add_web

WRONG = 1
"""Exit code: the configuration is wrong, or a port can't be bound."""

MOST_DRAIN_WITHIN = 3600.0
"""Seconds that an operator can give a drain."""

MISUSED = 2
"""Exit code: there is no such option."""

_INTERFACES = ("bootfw", "interfaces")

_PID_FILE = "twistd.pid"
"""Twisted's default, in the working directory."""

EPILOG = f"""
Without --config bootfw runs with its defaults: it names the boot files to clients of
another DHCP server (proxyDHCP), and serves, read only,
{", ".join(defaults.ROOTS)}, a menu of the images in them,
and the boot programs that the distribution has installed, by TFTP, and by HTTP if TCP
port {defaults.HTTP_LISTEN[0][1]} is free. If ports below 1024 are not allowed, it uses
{67 + defaults.HIGH} and {69 + defaults.HIGH}.

Every key of the file can also be set by an environment variable, which overrides the file:
BOOTFW_TFTP_MAX_BLKSIZE=1400, BOOTFW_INTERFACES=eth0,eth1, BOOTFW_BACKEND_0_ROOT=/srv/boot.

Examples:
  {{foreground:<50}} try it, the log on the terminal
  {{server:<50}} serve
  {{check:<50}} is the file right?
  {{plugins:<50}} what can be named in "use"

Exit codes: 0 success, 1 the configuration is wrong or a port can't be bound, 2 no such option.
"""


class Options(usage.Options):
    """The options after ``twistd bootfw``."""

    command = "twistd bootfw"
    """The command that the user has typed, without its options."""
    foreground = "twistd --nodaemon bootfw"
    synopsis = "[options]"
    longdesc = "Network boot services: proxyDHCP, TFTP and HTTP."
    optParameters = [["config", "c", None, "The configuration, a TOML file."]]
    optFlags = [
        ["check", None, "Read the configuration, load and verify every plugin it names, and exit."],
        ["list-plugins", None, "Show the installed plugins and exit."],
        ["json", None, "With --list-plugins: as JSON."],
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the options. Misuse ends the process with one line and an exit code; twistd would print its help and
        exit with 0."""
        escape_unencodable()
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            _give_up([f"{error}; see {self.command} --help"], MISUSED)

    def parseArgs(self, *arguments: str) -> None:
        """Refuse arguments: there are none."""
        if arguments:
            raise usage.UsageError(f'unexpected "{arguments[0]}"')

    def opt_version(self) -> NoReturn:
        """Show the version of bootfw and exit."""
        sys.stdout.write(f"bootfw {__version__}\n")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Do what needs no server: --list-plugins and --check end the process."""
        if self["json"] and not self["list-plugins"]:
            raise usage.UsageError("--json is for --list-plugins")
        if self["list-plugins"]:
            rows = list_plugins()
            as_json = json.dumps([attrs.asdict(row) for row in rows], indent=2)
            sys.stdout.write((as_json if self["json"] else _listed(rows)) + "\n")
            raise SystemExit(0)
        if self["check"]:
            configuration, parts = _assembled(self, reactor)
            name = configuration.source or "the default configuration"
            sys.stdout.write(f"{name}: OK\n{aligned(_contents(parts))}\n")
            for problem in missing_interfaces(configuration.settings.interfaces).values():
                sys.stdout.write(f"WARNING: {configuration.format_error(ConfigError(problem, _INTERFACES))}\n")
            for problem in ends_at_ipxe(parts.resolvers, parts.settings):
                sys.stdout.write(f"WARNING: {configuration.format_error(ConfigError(problem, ('resolver',)))}\n")
            for path, problem in power_mistakes(parts):
                sys.stdout.write(f"WARNING: {path}: {problem}\n")
            raise SystemExit(0)
        self._settle_pid_file()

    def _settle_pid_file(self) -> None:
        """Use no pid file in the foreground if a stale one exists or it can't be written, instead of failing."""
        parent = getattr(self, "parent", None)
        if parent is None or not parent["nodaemon"] or parent["pidfile"] != _PID_FILE:
            return
        if os.path.lexists(_PID_FILE) or not os.access(".", os.W_OK):
            parent["pidfile"] = ""

    def getUsage(self, width: int | None = None) -> str:
        """What ``--help`` prints."""
        return str(super().getUsage(width)) + EPILOG.format(
            foreground=self.foreground,
            server=f"{self.command} -c /etc/bootfw/bootfw.toml",
            check=f"{self.command} --check -c bootfw.toml",
            plugins=f"{self.command} --list-plugins",
        )


class RunOptions(Options):
    """The same options after ``bootfw run``."""

    command = foreground = "bootfw run"
    synopsis = "Usage: bootfw run [options]"


def makeService(options: Options) -> IService:
    """Return the service that twistd runs. Errors in the configuration end the process with a line for each."""
    timed = monotonic(reactor)
    configuration, parts = _assembled(options, timed)
    settings, notes = settle(configuration)
    try:
        restore_variables(os.environ)
        inherited = inherited_sockets(os.environ)
        user = _account(settings)
    except ConfigError as error:
        _give_up([configuration.format_error(error)], WRONG)
    if user is not None:  # the default directory of that account would be another one
        settings = attrs.evolve(settings, state_dir=str(state_directory(settings.state_dir)))
        give_directory(settings.state_dir, user)
    parts = attrs.evolve(parts, settings=settings)
    sys.excepthook = _without_known_tracebacks(sys.excepthook)
    allow_many_files()
    boot = parts.service(timed, inherited)
    site = add_web(timed, boot, settings.web, optional=("web", "listen") not in configuration.explicit_keys)
    metrics = add_metrics(timed, boot, settings.metrics)
    if metrics is not None:
        site.mount("metrics", metrics)
    add_status(boot, str(configuration.source or ""))
    path = Path(options["config"]).absolute() if options["config"] else None
    reload = Reload(timed, boot, parts, path, os.environ)
    log = _log(options.parent, parts)

    def applied(parts: Parts) -> None:
        site.use(parts.settings.web)
        for unwanted in close_unwanted(inherited, boot.sockets()):
            Daemon.log.warn(
                "{socket} is closed, since the configuration does not want it any more. The service manager keeps its "
                "copy: what clients send there waits until the socket unit is stopped",
                socket=unwanted,
            )
        if log is not None:
            log.use_level(parts.settings.log.level)
            _set_names_of_macs(parts, log)

    reload.applied = applied
    daemon = Daemon(boot, parts, notes, log, inherited, user, reload)
    boot.add_operations({"reload": reload.operation, "drain": daemon.drain})
    supervision = add_supervision(timed, boot, os.environ)
    if supervision is not None:
        reload.before, reload.after = supervision.reloading, supervision.reloaded
        supervision.setServiceParent(daemon)  # type: ignore[no-untyped-call]
    return daemon


def _account(settings: Settings) -> pwd.struct_passwd | None:
    """Return the account to change to after the ports are bound; None: keep the present one.

    :raise ConfigError: there is no such account.
    """
    if not settings.user or os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(settings.user)
    except KeyError:
        raise ConfigError(f'there is no account "{settings.user}" on this host', ("bootfw", "user")) from None


def _log(twistd: Mapping[str, Any] | None, parts: Parts) -> LinesLog | JournalLog | None:
    """Open the log that the configuration describes; None: twistd's own is used."""
    if twistd is None or twistd.get("logger") or twistd.get("syslog"):
        return None
    try:
        log: LinesLog | JournalLog = open_log(
            parts.settings.log, twistd.get("logfile") or "", reactor, foreground=bool(twistd["nodaemon"])
        )
    except ConfigError as error:
        _give_up([parts.configuration.format_error(error.under("log").each[0])], WRONG)
    except OSError as error:
        _give_up([f"--logfile {error.filename}: can't be written: {error.strerror}"], WRONG)
    _set_names_of_macs(parts, log)
    return log


def _set_names_of_macs(parts: Parts, log: LinesLog | JournalLog) -> None:
    """Add the client's MAC to the records of transfers if the output of the log shows fields."""
    for _, observer in parts.observers:
        if isinstance(observer, LogObserver):
            observer.names_macs = log.shows_fields


class Daemon(MultiService):
    """A BootService under twistd: it logs what is bound where, and ends the process if a port can't be bound."""

    log = Logger(namespace="bootfw")

    def __init__(
        self,
        boot: BootService,
        parts: Parts,
        notes: Mapping[str, str],
        log_to: "ILogObserver | None" = None,
        inherited: Sequence[InheritedSocket] = (),
        user: pwd.struct_passwd | None = None,
        reload: Reload | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inherited = inherited
        self._user = user
        self._reload = reload
        self._was_root = False
        self._log_to = log_to
        self._boot = boot
        self._draining: Draining | None = None
        self._drain_within = DRAIN_WITHIN
        self._parts = parts
        self._notes = notes
        boot.setServiceParent(self)  # type: ignore[no-untyped-call]

    def setServiceParent(self, parent: Any) -> None:
        """Join the application, and set its log observer, which twistd will use."""
        if self._log_to is not None and parent.getComponent(ILogObserver, None) is None:
            parent.setComponent(ILogObserver, self._log_to)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Bind the ports, while root still. An error is logged in one line."""
        self._reload_on_hangup()
        clear_ambient_capabilities()
        self._was_root = os.geteuid() == 0
        if self._was_root:
            keep_capabilities()  # twistd gives up root after this, with --uid
        try:
            super().privilegedStartService()  # type: ignore[no-untyped-call]
            check_used(self._inherited, self._boot.summary())
        except (StateError, ConfigError) as error:
            self.log.critical("{reason}", reason=error)
            raise
        except CannotListenError as error:
            if not any(isinstance(observer, LogObserver) for _, observer in self._parts.observers):
                self.log.critical("{reason}", reason=error)
            raise
        if self._user is not None:
            become(self._user)

    def _reload_on_hangup(self) -> None:
        """Make SIGHUP reload the configuration, unless it is ignored already (nohup)."""
        reload = self._reload

        def hangup(number: int, frame: object) -> None:
            if reload is not None:
                reactor.callFromThread(reload.run)  # type: ignore[attr-defined]

        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            signal.signal(signal.SIGHUP, hangup)

    def startService(self) -> None:
        """Start, and log which services listen where."""
        if self._was_root and os.geteuid() != 0:
            restrict_capabilities()
        super().startService()  # type: ignore[no-untyped-call]
        reactor.callWhenRunning(reactor.callLater, 0, _end_once, self.stop_now)
        ports = self._boot.summary()
        table = aligned([(port.service, address_text(port.address), self._note(port)) for port in ports])
        self.log.info("bootfw serves\n{table}", table=table)
        if not self._parts.resolvers and self._parts.settings.dhcp.mode == "proxy":
            self.log.warn("no resolver is named and no boot program is found, so there is no DHCP: add a [[resolver]]")
        if not self._parts.settings.tftp.listen:
            for name, file in files_by_tftp(self._parts):
                self.log.warn(
                    'TFTP is off (listen of [tftp] is empty), and resolver {name} names "{file}" for TFTP from this '
                    "server: clients will not get it. Name it as a URL, or with the server that has it",
                    name=name,
                    file=file,
                )
        tftp = [port for port in ports if port.service == "tftp"]
        for address in map(_reached, tftp):
            if address is not None:
                self.log.info("try it: {command}", command=_fetching(address, self._parts))
                break
        self.log.info("what next:\n{table}", table=aligned(_next_commands(ports, self._parts.configuration.source)))
        # Objects created by the start live until the end: a full collection would examine them again and again, and
        # delay all clients by tens of milliseconds each time.
        gc.freeze()

    def stopService(self) -> "Deferred[Any]":
        """Stop when the running transfers have ended, DRAIN_WITHIN seconds after a signal, or at a second signal."""
        self._draining = draining = self._boot.drain(self._drain_within)
        if draining.hands_over:
            self.log.info(
                "stopping: {count} transfer(s) have {seconds:.0f} s to end, and go on at other servers then; a second "
                "signal ends the wait",
                count=draining.count,
                seconds=draining.within,
            )
        elif draining.count:
            self.log.info(
                "stopping: {count} transfer(s) have {seconds:.0f} s to end; a second signal ends them at once",
                count=draining.count,
                seconds=draining.within,
            )
        stopping = super().stopService
        return draining.start().addCallback(lambda _: maybeDeferred(stopping))

    def drain(self, arguments: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Operation of the control socket: stop as after SIGTERM, but with as much time as the operator gives."""
        within = arguments.get("within")
        if not isinstance(within, int | float) or not 0 <= within <= MOST_DRAIN_WITHIN:
            raise StateError(f"a drain takes 0 to {MOST_DRAIN_WITHIN:.0f} seconds, not {within!r}")
        if self._draining is not None:
            raise StateError("the server is stopping already")
        self._drain_within = float(within)
        stop = signal.getsignal(signal.SIGTERM)  # see _end_once(): a signal that comes next ends the wait
        if callable(stop):
            stop(signal.SIGTERM, None)
        else:
            reactor.callLater(0, reactor.stop)
        return [{"within": self._drain_within}]

    def stop_now(self) -> None:
        """Stop without waiting for transfers any longer."""
        if self._draining is not None:
            self._draining.end()

    def _note(self, port: Listening) -> str:
        """Return the note about an open port for the log."""
        if port.service == "web":
            return f"http://{address_text(_reached(port) or port.address)}/"
        return port.note or self._notes.get(port.service, "")


def _end_once(again: Callable[[], None]) -> None:
    """Pass only the first SIGTERM or SIGINT to the reactor, which stops then. A second one before it has stopped would
    raise in the reactor.

    :param again: called for each signal after the first.
    """
    taken: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if not callable(handler):
            continue

        def once(number: int, frame: Any, handler: Any = handler) -> None:
            if not taken:
                taken.append(number)
                handler(number, frame)
            else:
                reactor.callFromThread(again)  # type: ignore[attr-defined]

        signal.signal(number, once)


def _assembled(options: Options, reactor: Any) -> tuple[Configuration, Parts]:
    try:
        parts = load_parts(options["config"], os.environ, reactor)
        return parts.configuration, parts
    except ConfigErrors as errors:
        _give_up(errors.lines, WRONG)


def _give_up(lines: Iterable[str], code: int) -> NoReturn:
    for line in lines:
        sys.stderr.write(f"bootfw: {line}\n")
    raise SystemExit(code)


def _without_known_tracebacks(previous: Callable[..., Any]) -> Callable[..., Any]:
    """Return an excepthook that prints no traceback for errors of the operator, which have been logged.

    With twistd an exception is the only way to abort a start: twistd cleans up and raises it again.
    """

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, (CannotListenError, StateError, ConfigError)):
            previous(kind, error, traceback)

    return hook


def _contents(parts: Parts) -> list[tuple[str, str]]:
    def names(named: Iterable[tuple[str, Any]]) -> str:
        return ", ".join(name for name, _ in named) or "none"

    dhcp, dhcp6 = parts.settings.dhcp, parts.settings.dhcp6
    silent = not parts.resolvers and dhcp.mode == "proxy"
    http = parts.settings.http
    certificate = [("certificate", _certificate(http))] if http.https_listen else []
    networks = [str(subnet.network) for subnet in dhcp.subnets] + [str(subnet.network) for subnet in dhcp6.subnets]
    of_servers = [
        ("addresses", ", ".join(networks)),
        ("leases", parts.store[0]),
    ]
    return [
        *(of_servers if "server" in (dhcp.mode, dhcp6.mode) else []),
        *certificate,
        ("backends", names(parts.backends)),
        ("resolvers", names(parts.resolvers) + (", so there is no DHCP" if silent else "")),
        ("watchdog", parts.watchdog[0]),
        ("observers", names(parts.observers)),
    ]


def _certificate(http: HTTPSettings) -> str:
    found = tls().load(http)
    text = f"for {', '.join(found.names) or 'no name'}, until {found.ends:%Y-%m-%d}"
    problem = found.problem(time.time())
    return f"{text}: WARNING, {problem}" if problem else text


def _fetching(address: Address, parts: Parts) -> str:
    """Return a command that fetches an existing file."""
    name = defaults.example(parts.backends) or "FILE"
    return f"curl -O tftp://{address_text(address)}/{name}"


def _reached(port: Listening) -> Address | None:
    """Return an address at which programs of this host reach a port; None: its interface has none."""
    host = port.address[0]
    if port.device:
        host = address_on(port.device, AF_INET6 if ":" in host else AF_INET)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return (host, port.address[1]) if host else None


def _next_commands(listening: Iterable[Listening], source: Path | None) -> list[tuple[str, str]]:
    """Return (command, purpose) for the commands to use next, with the options for this server."""
    config = f" -c {shlex.quote(str(source))}" if source else ""
    listening = list(listening)
    ports = {port.service: port.address[1] for port in reversed(listening)}
    commands = [
        (f"bootfw status{config}", "what the server does"),
        (f"bootfw boots{config}", "which machines have booted, and why others have not"),
    ]
    if "dhcp" in ports:
        options = {
            "--port": (ports["dhcp"], 67),
            "--boot-server-port": (ports.get("boot-server", 4011), 4011),
            "--tftp-port": (ports.get("tftp", 69), 69),
        }
        unusual = "".join(f" {name} {port}" for name, (port, usual) in options.items() if port != usual)
        device = next(port.device for port in listening if port.service == "dhcp")
        server = f"--interface {shlex.quote(device)}" if device else "127.0.0.1"
        commands.append((f"bootfw probe {server}{unusual}", "boot from it, as a machine would"))
    return [*commands, (f"bootfw doctor{config}", "why a machine does not boot")]


def _listed(rows: Sequence[PluginRow]) -> str:
    return aligned([(r.kind, r.name, r.distribution, r.summary or f"CAN'T BE USED: {r.error}") for r in rows])
