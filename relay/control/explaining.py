"""What `relayctl explain` and `relayctl why` ask."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final

from attrs import frozen

from relay.config.errors import ConfigurationError
from relay.control.api import Answer, Asked, Refused
from relay.control.rehearsal import STRANGER, Rehearsal
from relay.control.rehearsal import Asked as Mail
from relay.control.running import Running
from relay.mail.address import Address, AddressError, parse_address

#: Accounts that are told at most.
MOST_ACCOUNTS: Final = 20
#: How a client at a Unix socket is named.
LOCAL: Final = "unix"
_WORDS: Final = frozenset({"to", "from", "client", "helo", "user", "listener", "tls", "message"})


@frozen
class ExplanationDesk:
    """Answers about decisions: those that were made, and one that would be."""

    running: Running

    def questions(self) -> Mapping[str, Answer]:
        return {"why": self.why, "explain": self.explain}

    def acts(self) -> Mapping[str, Answer]:
        # It changes nothing; but a message is too long for the words of a GET.
        return {"explain": self.explain}

    async def why(self, asked: Asked) -> Mapping[str, Any]:
        text = asked.text("text").strip()
        if not text:
            raise Refused("why what? Say a reference, a queue id, a Message-ID, or an address")
        if self.running.history is None:
            raise Refused("this relay keeps no history: say keep = true in [history]", 404)
        return (await self.running.history.why(text, MOST_ACCOUNTS)).to_json()

    async def explain(self, asked: Asked) -> Mapping[str, Any]:
        if self.running.rehearsal is None:
            raise Refused("this relay cannot explain", 404)
        return await explained(self.running.rehearsal, asked)


async def explained(rehearsal: Rehearsal, asked: Asked) -> Mapping[str, Any]:
    """What would become of the mail that these words describe."""
    for name in asked.words:
        if name not in _WORDS:
            raise Refused(f"'{name}' is not understood here")
    mail = Mail(
        recipient=_address(asked.text("to"), "the recipient"),
        sender=_sender(asked.text("from")),
        client=_client(asked.text("client")),
        helo=asked.text("helo").strip(),
        user=asked.text("user").strip() or None,
        listener=asked.text("listener").strip(),
        tls=asked.text("tls") == "yes",
        message=_message(asked.text("message")),
    )
    try:
        return (await rehearsal.explain(mail)).to_json()
    except ConfigurationError as error:
        raise Refused(f"the policies cannot be made now: {'; '.join(map(str, error.problems))}", 503) from None
    except LookupError as error:
        raise Refused(str(error.args[0]), 404) from None


def _address(text: str, what: str) -> Address:
    text = text.strip()
    try:
        return parse_address(text[1:-1] if text.startswith("<") and text.endswith(">") else text)
    except AddressError as problem:
        raise Refused(f"{what} {text!r} is no address: {problem}") from None


def _sender(text: str) -> Address | None:
    return None if text.strip() in ("", "<>") else _address(text, "the sender")


def _client(text: str) -> str:
    text = text.strip()
    if text == LOCAL:
        return ""
    try:
        return str(ip_address(text or STRANGER))
    except ValueError:
        raise Refused(f"the client {text!r} is no IP address: say one, or '{LOCAL}' for a Unix socket") from None


def _message(text: str) -> bytes | None:
    if not text:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("'message' should be base64") from None
