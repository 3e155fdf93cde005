"""IPower."""

import time

from zope.interface.verify import verifyObject

from bootfw.interfaces import IPower
from bootfw.values import PowerAction, PowerState

_PATIENCE = 60.0
"""Seconds within which a machine has to be on or off."""


class PowerContract:
    """What the power of every machine does. Override ``make_power`` and ``boots_from_network``."""

    def make_power(self) -> IPower:
        """Return the power of a machine that is off."""
        raise NotImplementedError

    def boots_from_network(self) -> bool:
        """Return whether the next start of that machine is from the network."""
        raise NotImplementedError

    def becomes(self, power: IPower, state: PowerState) -> None:
        """Wait until the machine is in *state*."""
        began = time.monotonic()
        while (found := power.state()) is not state:
            assert time.monotonic() < began + _PATIENCE, f"it is {found.value} after {_PATIENCE:.0f} s"
            time.sleep(0.05)

    def test_provides_the_interface(self) -> None:
        verifyObject(IPower, self.make_power())

    def test_on_and_off_and_each_twice(self) -> None:
        power = self.make_power()
        assert power.state() is PowerState.OFF
        power.switch(PowerAction.OFF)
        assert power.state() is PowerState.OFF
        power.switch(PowerAction.ON)
        self.becomes(power, PowerState.ON)
        power.switch(PowerAction.ON)
        assert power.state() is PowerState.ON
        power.switch(PowerAction.OFF)
        self.becomes(power, PowerState.OFF)

    def test_a_reset_leaves_it_on_whatever_it_was(self) -> None:
        power = self.make_power()
        for _ in range(2):
            power.switch(PowerAction.RESET)
            self.becomes(power, PowerState.ON)

    def test_booting_from_the_network_switches_nothing(self) -> None:
        power = self.make_power()
        assert not self.boots_from_network()
        power.boot_from_network()
        assert self.boots_from_network()
        assert power.state() is PowerState.OFF
