"""Trace fields: `Received` and `Return-Path`, written from what was checked before (RFC 5321 section 4.4)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from relay.mail.address import Address, literal
from relay.mail.envelope import Client
from relay.mail.reply import printable


def came(client: Client, hostname: str, smtputf8: bool) -> str:
    """
    How `Received` begins, for all messages of a client. The HELO argument is shown as it was given, but for characters
    that could end the field.
    """
    tls = None if client.tls is None else (client.tls.protocol, client.tls.cipher)
    return _how_it_came(
        client.address, client.helo, tls, hostname, client.lmtp, client.extended, bool(client.user), smtputf8
    )


def received(came: str, id: str, when: float, recipient: Address | None, smtputf8: bool) -> bytes:
    """
    The field that we put on top of what we accept, folded, ended by CRLF.

    `when` is the calendar's time in seconds since the epoch. `recipient` is named only if it is the only one:
    a list would show each who else got a blind copy (RFC 5321 section 7.2).
    """
    whom = "" if recipient is None else f"\r\n\tfor <{recipient.text}>"
    text = f"{came} id {id}{whom};\r\n\t{_date(int(when))}\r\n"
    return text.encode("utf-8" if smtputf8 else "ascii", "replace")


@lru_cache(maxsize=1024)
def _how_it_came(
    address: str | None,
    helo: str,
    tls: tuple[str, str] | None,
    hostname: str,
    lmtp: bool,
    extended: bool,
    authenticated: bool,
    smtputf8: bool,
) -> str:
    """What is the same for all messages of a session, and of the next one from there."""
    # Who came by a Unix socket is known by the kernel's word, and not by AUTH.
    letters = f"{'S' if tls else ''}{'A' if authenticated and address else ''}"
    source = literal(address) if address else "localhost"
    helo = _helo_as_text(helo)
    lines = [f"Received: from {helo} ({source})" if helo else f"Received: from {source}"]
    if tls is not None:
        # What people look for here. RFC 8314 section 4.3 has a clause for it, which knows IANA's names only.
        lines.append(f"\t(using {tls[0]} with cipher {tls[1]})")
    lines.append(f"\tby {hostname} (relay) with {_protocol(lmtp, extended, letters, smtputf8)}")
    return "\r\n".join(lines)


def return_path(reverse_path: Address | None) -> bytes:
    """The field that final delivery puts on top of everything (RFC 5321 section 4.4)."""
    return f"Return-Path: <{reverse_path or ''}>\r\n".encode()


def date(when: float) -> str:
    """The date-time of RFC 5322 section 3.3, in UTC."""
    return _date(int(when))


@lru_cache(maxsize=16)
def _date(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))


def _helo_as_text(helo: str) -> str:
    """Without what has a meaning in a field: parentheses, `;` and white space (RFC 5322 section 3.2.2)."""
    shown = printable(helo)
    return "".join("?" if character in '();<>,"\\ ' else character for character in shown)[:255]


def _protocol(lmtp: bool, extended: bool, letters: str, smtputf8: bool) -> str:
    """RFC 3848, RFC 6531 section 4.3: S for TLS and A for AUTH, which only the extended protocols have names for."""
    if lmtp:
        return f"{'UTF8LMTP' if smtputf8 else 'LMTP'}{letters}"
    if smtputf8:
        return f"UTF8SMTP{letters}"
    return f"ESMTP{letters}" if extended or letters else "SMTP"
