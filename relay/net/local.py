"""Which addresses are this machine's."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Final

from relay.interfaces import IClock

#: For how long the kernel is not asked again: addresses come and go by the hour, mail by the millisecond.
_SECONDS: Final = 10.0
#: No more answers are kept than these.
_MOST: Final = 4096


class LocalAddresses:
    """`is_local`, with what the kernel said a moment ago."""

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._known: dict[str, bool] = {}
        self._until = 0.0

    def __call__(self, address: str) -> bool:
        now = self._clock.seconds()
        if now >= self._until or len(self._known) >= _MOST:
            self._known.clear()
            self._until = now + _SECONDS
        known = self._known.get(address)
        if known is None:
            known = self._known[address] = is_local(address)
        return known


def is_local(address: str) -> bool:
    """
    Whether packets to this address would stay on this machine. Sends none; a few system calls, and never waits.

    The kernel is asked which of the machine's addresses it would speak from: to one of its own, from that one itself.
    (Binding to it would tell as much, but not where `net.ipv4.ip_nonlocal_bind` is set: there all bind.)
    """
    ip = ip_address(address)
    if ip.is_loopback or ip.is_unspecified:
        return True
    try:
        with socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            source: str = probe.getsockname()[0]
    except OSError:  # no way there, so it is not here
        return False
    return ip_address(source) == ip
