"""An Ethernet cable that drops, repeats and reorders UDP datagrams, both ways: ``badcable.py NEAR FAR SEED``.

NEAR and FAR are the TAP interfaces that it makes and joins. Everything else (ARP, neighbour discovery) passes unharmed,
so that what a test sees is what UDP suffered. On SIGTERM it prints what it did.
"""

import fcntl
import os
import random
import select
import signal
import struct
import sys
from collections import Counter

_TUNSETIFF = 0x400454CA  # <linux/if_tun.h>
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_FRAME = 65536

DROPPED = 0.05
REPEATED = 0.05
HELD_BACK = 0.01
"""Shares of the datagrams. One that is held back is overtaken by the next; without a window that is its own copy, which
is sent after a timeout as for one that was dropped."""

_HELD_BACK_SECONDS = 0.2
"""The longest that a frame waits for another one to overtake it: longer than it takes to be missed and sent again."""


def open_tap(name: str) -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return tap


def is_udp(frame: bytes) -> bool:
    """Whether an Ethernet frame has a UDP datagram in it, by IPv4 or IPv6."""
    kind = frame[12:14]
    return (kind == b"\x08\x00" and frame[23] == 17) or (kind == b"\x86\xdd" and frame[20] == 17)


class Direction:
    """The frames that go from one TAP interface to the other."""

    def __init__(self, source: int, target: int, dice: random.Random) -> None:
        self.source = source
        self.held_back: bytes | None = None
        self.counts: Counter[str] = Counter()
        self._target = target
        self._dice = dice

    def carry(self, frame: bytes) -> None:
        """Send a frame, or drop, repeat or hold it back if it is UDP."""
        if not is_udp(frame):
            self._send(frame)
            return
        self.counts["datagrams"] += 1
        if self._dice.random() < DROPPED:
            self.counts["dropped"] += 1
            return
        if self._dice.random() < HELD_BACK and self.held_back is None:
            self.held_back = frame
            return
        self._send(frame)
        if self._dice.random() < REPEATED:
            self.counts["repeated"] += 1
            self._send(frame)
        if self.held_back is not None:
            self.counts["overtaken"] += 1
            self.release()

    def release(self) -> None:
        """Send the frame that was held back, if there is one."""
        frame, self.held_back = self.held_back, None
        if frame is not None:
            self._send(frame)

    def _send(self, frame: bytes) -> None:
        try:
            os.write(self._target, frame)
        except OSError:  # the far end is not up, or its queue is full: lost, as on any cable
            self.counts["dropped"] += 1


def main(near: str, far: str, seed: str) -> None:
    dice = random.Random(int(seed))
    taps = open_tap(near), open_tap(far)
    directions = [Direction(a, b, dice) for a, b in (taps, taps[::-1])]
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    print("connected", flush=True)
    while not stopped:
        is_held = any(direction.held_back is not None for direction in directions)
        readable, _, _ = select.select(taps, [], [], _HELD_BACK_SECONDS if is_held else 0.5)
        for direction in directions:
            if direction.source in readable:
                carry_all(direction)
            if not readable:
                direction.release()
    print(*(f"{counted} {name}" for name, counted in sorted((directions[0].counts + directions[1].counts).items())))


def carry_all(direction: Direction) -> None:
    """Carry every frame that has arrived at the source."""
    try:
        while True:
            direction.carry(os.read(direction.source, _FRAME))
    except BlockingIOError:
        return
    except OSError:  # the interface is down
        return


if __name__ == "__main__":
    main(*sys.argv[1:])
