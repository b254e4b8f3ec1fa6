"""Where the relay listens and whom it asks: addresses of sockets, as people write them."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TypeAlias

from attrs import frozen


@frozen
class Inet:
    """An IP address and a port: `127.0.0.1:2525`, `[::1]:2525`."""

    #: Without brackets.
    host: str
    #: 0 stands for any free port, where one listens.
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class Unix:
    """A socket in the file system: `unix:/run/relay/lmtp.sock`."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@frozen
class Systemd:
    """A socket that systemd has opened for us, by the name in its `FileDescriptorName=`: `systemd:smtp`."""

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}"


ListenAddress: TypeAlias = Inet | Unix | Systemd


def listen_address(text: str) -> ListenAddress:
    """Where a listener listens. Raises `ValueError`, with words for the operator."""
    kind, _, rest = text.partition(":")
    if kind == "unix":
        if not rest:
            raise ValueError("should name a path, as in 'unix:/run/relay/lmtp.sock'")
        return Unix(Path(rest))
    if kind == "systemd":
        if not rest:
            raise ValueError("should name a socket of systemd's, as in 'systemd:smtp'")
        return Systemd(rest)
    return _inet(text, _NO_LISTEN_ADDRESS)


def server_address(text: str, *, port: int) -> Inet:
    """A server to ask: an IP address, and a port unless it is the usual one. Raises `ValueError`."""
    try:
        return Inet(str(ip_address(text.removeprefix("[").removesuffix("]"))), port)
    except ValueError:
        found = _inet(text, _NO_SERVER_ADDRESS)
        if found.port == 0:
            raise ValueError("nobody can be asked on port 0") from None
        return found


def is_local(address: ListenAddress) -> bool:
    """Whether only this machine can connect there, as far as the address tells."""
    match address:
        case Inet(host):
            return ip_address(host).is_loopback
        case Unix():
            return True
        case Systemd():  # only systemd knows
            return False


_NO_LISTEN_ADDRESS = (
    "should be like '127.0.0.1:2525', '[::1]:2525', '[::]:25' (everywhere), 'unix:/path' or 'systemd:name'"
)
_NO_SERVER_ADDRESS = "should be like '192.0.2.53', '192.0.2.53:53' or '[2001:db8::53]:53'"


def _inet(text: str, complaint: str) -> Inet:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        raise ValueError(complaint) from None
    if isinstance(address, IPv6Address) is not bracketed or not (port.isascii() and port.isdigit()):
        raise ValueError(complaint)
    if len(port) > 5 or int(port) > 65535:
        raise ValueError("a port is a number from 0 to 65535")
    return Inet(str(address), int(port))
