"""Where a request may be sent."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen

_PORTS: Final = {"https": 443, "http": 80}


@frozen
class Url:
    """A URL that was looked at: no user, no fragment, and in clear only to this machine unless that was permitted."""

    text: str
    host: str
    port: int
    secure: bool
    #: For logs: without the query, in which people put what nobody else should see.
    shown: str

    @classmethod
    def of(cls, text: str, *, plain: bool = False) -> Url:
        """Raises `ValueError` with words for the operator."""
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("should be a URL of printable ASCII, without blanks")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"should be a URL: {error}") from None
        host = parts.hostname or ""
        if parts.scheme not in _PORTS or not host:
            raise ValueError("should be a URL such as 'https://app.example.org/mail'")
        if "@" in parts.netloc:
            raise ValueError("should have no user and no password in it")
        if parts.fragment:
            raise ValueError("should have no '#' in it, which a server never sees")
        if parts.scheme == "http" and not plain and not _is_loopback(host):
            raise ValueError("should begin with 'https://': mail goes unencrypted only where 'plain = true' says so")
        return cls(
            text,
            host,
            _PORTS[parts.scheme] if port is None else port,
            parts.scheme == "https",
            f"{parts.scheme}://{parts.netloc}{parts.path}",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
