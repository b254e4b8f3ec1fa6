"""Which addresses are this machine's."""

from __future__ import annotations

import socket
from ipaddress import ip_address


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
