"""The ``redfish`` plugin: the power of a machine, by the Redfish service of its BMC (DMTF DSP0266)."""

import logging
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sushy
import sushy.auth
import sushy.connector
from attrs import define
from sushy import exceptions
from zope.interface import implementer

from bootfw.api import ConfigError, IPower, PluginContext, PowerAction, PowerError, PowerState, boot_plugin

_TRIES = 2
"""How often a request is sent to a BMC that can't be reached or answers with a server error."""

_DELAY = 2
"""Seconds between two tries."""

_STATES = {
    sushy.PowerState.ON: PowerState.ON,
    sushy.PowerState.OFF: PowerState.OFF,
    sushy.PowerState.POWERING_ON: PowerState.POWERING_ON,
    sushy.PowerState.POWERING_OFF: PowerState.POWERING_OFF,
}

_RESETS = {
    PowerAction.ON: (sushy.ResetType.ON, sushy.ResetType.FORCE_ON),
    PowerAction.OFF: (sushy.ResetType.FORCE_OFF,),
    PowerAction.RESET: (sushy.ResetType.FORCE_RESTART, sushy.ResetType.POWER_CYCLE),
}
"""What the BMC is asked for; the first that it offers."""

_NETWORK = (sushy.BootSource.PXE, sushy.BootSource.UEFI_HTTP)
"""Boot sources, the preferred one first."""

# sushy logs what it raises as well; without a handler Python would write that to stderr.
logging.getLogger("sushy").addHandler(logging.NullHandler())


@implementer(IPower)
@define(eq=False)
class RedfishPower:
    """The power of one machine.

    :param address: the URL of its BMC, such as ``https://10.0.1.5``. http is for emulators on this host: it needs
        ``verify = false``, since the password could be read on the way.
    :param user: an account of the BMC that may switch the machine.
    :param password_file: its first line is the password. Relative to the configuration's directory. It is read at each
        use, and must not be readable for every user.
    :param ca_file: certificates, PEM, by which the BMC's is verified; default: those that Python's requests trusts. For
        a BMC with a certificate that it has signed itself, that certificate.
    :param verify: false: any certificate is accepted, so the password can be stolen.
    :param system: for a BMC of several machines: the Id of this one, or its name or UUID.
    :param timeout_seconds: of one request.
    """

    address: str
    user: str
    password_file: Path
    ca_file: Path | None = None
    verify: bool = True
    system: str = ""
    timeout_seconds: float = 20.0

    @classmethod
    def configured(
        cls,
        context: PluginContext,
        address: str,
        user: str,
        password_file: str,
        ca_file: str = "",
        verify: bool = True,
        system: str = "",
        timeout_seconds: float = 20.0,
    ) -> "RedfishPower":
        """Called by boot_plugin."""
        url = _url(address)
        if url.startswith("http:") and verify:
            raise ConfigError("sends the password in clear text: use https, or set verify = false", ("address",))
        if ca_file and not verify:
            raise ConfigError("is of no use with verify = false", ("ca-file",))
        if not 0 < timeout_seconds <= 600:
            raise ConfigError(f"must be more than 0 and at most 600, not {timeout_seconds}", ("timeout-seconds",))
        if not password_file:
            raise ConfigError("must be the path of a file", ("password-file",))
        ca = context.directory / ca_file if ca_file else None
        return cls(url, user, context.directory / password_file, ca, verify, system, timeout_seconds)

    def state(self) -> PowerState:
        """See IPower."""
        with self._machine() as machine:
            return _STATES.get(machine.power_state, PowerState.UNKNOWN)

    def switch(self, action: PowerAction) -> None:
        """See IPower."""
        with self._machine() as machine:
            state = _STATES.get(machine.power_state, PowerState.UNKNOWN)
            # Some BMCs answer with an error when there is nothing to do.
            if (action, state) in ((PowerAction.ON, PowerState.ON), (PowerAction.OFF, PowerState.OFF)):
                return
            if action is PowerAction.RESET and state is PowerState.OFF:
                action = PowerAction.ON
            offered = machine.get_allowed_reset_system_values()
            machine.reset_system(self._first(_RESETS[action], offered, f'can\'t do "{action.value}"'))

    def boot_from_network(self) -> None:
        """See IPower. By PXE, or by UEFI HTTP boot if the BMC offers no PXE."""
        with self._machine() as machine:
            offered = machine.get_allowed_system_boot_source_values()
            source = self._first(_NETWORK, offered, "can't have the machine boot from the network")
            machine.set_system_boot_options(source, enabled=sushy.BootSourceOverrideEnabled.ONCE)

    def _first(self, preferred: Sequence[Any], offered: Any, refusal: str) -> Any:
        for each in preferred:
            if each in offered:
                return each
        offered_names = ", ".join(sorted(each.value for each in offered)) or "nothing"
        raise PowerError(f"{self.address} {refusal}: it offers {offered_names}")

    @contextmanager
    def _machine(self) -> Iterator[Any]:
        """The machine, in a session with the BMC."""
        auth = sushy.auth.SessionOrBasicAuth(self.user, self._password())
        verify = str(self.ca_file) if self.ca_file is not None else self.verify
        if self.ca_file is not None and not self.ca_file.is_file():
            raise PowerError(f"ca-file: there is no file {self.ca_file}")
        connector = sushy.connector.Connector(
            self.address,
            verify=verify,
            server_side_retries=_TRIES,
            server_side_retries_delay=_DELAY,
            default_request_timeout=self.timeout_seconds,
        )
        try:
            # An open session takes one of the few that a BMC has.
            with auth:
                yield self._system(sushy.Sushy(self.address, auth=auth, connector=connector))
        except exceptions.AccessError as error:
            raise PowerError(f'{self.address} refuses the user "{self.user}": check user and password-file') from error
        except exceptions.ConnectionError as error:
            raise PowerError(f"{self.address} can't be reached: {_reason(error)}") from error
        except exceptions.HTTPError as error:
            detail = error.detail or f"status {error.status_code}"
            raise PowerError(f"{self.address} refuses: {detail}") from error
        except exceptions.SushyError as error:
            raise PowerError(f"{self.address} is no Redfish service as expected: {error}") from error

    def _system(self, root: Any) -> Any:
        machines = root.get_system_collection().get_members()
        if not self.system and len(machines) == 1:
            return machines[0]
        for each in machines:
            if self.system and self.system in (each.identity, each.name, each.uuid):
                return each
        identities = ", ".join(each.identity for each in machines) or "none"
        if self.system:
            raise PowerError(f'{self.address} has no system "{self.system}"; it has: {identities}')
        raise PowerError(f"{self.address} has {len(machines)} systems: set system to one of {identities}")

    def _password(self) -> str:
        try:
            with open(self.password_file, encoding="utf-8") as file:
                if stat.S_IMODE(self.password_file.stat().st_mode) & stat.S_IROTH:
                    raise PowerError(f"every user can read {self.password_file}: chmod o-r {self.password_file}")
                password = file.readline().rstrip("\r\n")
        except OSError as error:
            raise PowerError(f"password-file: {self.password_file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise PowerError(f"password-file: {self.password_file} must be UTF-8") from error
        if not password:
            raise PowerError(f"password-file: {self.password_file} has no password in its first line")
        return password


def _url(address: str) -> str:
    """Convert ``10.0.1.5`` and ``https://10.0.1.5/`` to ``https://10.0.1.5``."""
    url = address if "://" in address else f"https://{address}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(f'must be the URL of a BMC, such as "https://10.0.1.5", not "{address}"', ("address",))
    return f"{parts.scheme}://{parts.netloc}"


def _reason(error: BaseException) -> str:
    """Return why a connection has failed: the innermost cause that has words for it."""
    reason, seen_ids = str(error), set[int]()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen_ids:
        seen_ids.add(id(cause))
        verification = getattr(cause, "verify_message", "")
        if verification:
            return f"its certificate is not trusted ({verification})"
        reason = getattr(cause, "strerror", None) or reason
        if type(cause).__name__.endswith("Timeout"):
            reason = "no answer in time"
        cause = cause.__cause__ or cause.__context__
    return reason


plugin = boot_plugin(IPower, RedfishPower)
