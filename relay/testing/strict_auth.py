"""
Mechanisms of AUTH, the server's side, for `FakeExchange`: small, and by the RFCs alone.

Each is a generator that yields challenges, is handed what the client responds, and returns the user, or why there is
none. What a client may not do is a `ClientError`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Generator, Mapping
from typing import Final, TypeAlias

from attrs import frozen


class ClientError(Exception):
    """No client may say this."""


@frozen
class Unknown:
    """Nobody who is known, or not with this password: 535."""

    why: str


#: Yields a challenge and is sent the response; the first response may come without a challenge.
Mechanism: TypeAlias = Generator[bytes, bytes, str | Unknown]

_SALT: Final = b"salt of the earth"
_ITERATIONS: Final = 4096


def plain(users: Mapping[str, str], bindings: Mapping[str, bytes]) -> Mechanism:
    """RFC 4616."""
    parts = (yield b"").split(b"\0")
    if len(parts) != 3 or not all(parts[1:]):
        raise ClientError("a response of PLAIN that is not three parts")
    identity, user, password = (part.decode() for part in parts)
    if identity and identity != user:
        return Unknown("to act as somebody else")
    return user if users.get(user) == password else Unknown(user)


def login(users: Mapping[str, str], bindings: Mapping[str, bytes]) -> Mechanism:
    """As servers do it since the nineties."""
    user = (yield b"Username:").decode()
    password = (yield b"Password:").decode()
    return user if users.get(user) == password else Unknown(user)


def xoauth2(users: Mapping[str, str], bindings: Mapping[str, bytes]) -> Mechanism:
    """As Google has described it; a user's password is its token."""
    said = (yield b"").decode()
    if not said.endswith("\1\1"):
        raise ClientError("a response of XOAUTH2 that does not end")
    fields = dict(field.partition("=")[::2] for field in said.removesuffix("\1\1").split("\1"))
    user, token = fields.get("user", ""), fields.get("auth", "").removeprefix("Bearer ")
    if users.get(user) == token:
        return user
    if (yield b'{"status":"401"}'):
        raise ClientError("something was said to the reason for a refusal")
    return Unknown(user)


def scram(users: Mapping[str, str], bindings: Mapping[str, bytes]) -> Mechanism:
    """SCRAM-SHA-256 (RFC 5802, RFC 7677) where -PLUS is not offered."""
    return _scram(users, bindings, plus=False)


def scram_plus(users: Mapping[str, str], bindings: Mapping[str, bytes]) -> Mechanism:
    """SCRAM-SHA-256-PLUS, bound to the channel."""
    return _scram(users, bindings, plus=True)


MECHANISMS: Final[Mapping[str, Callable[[Mapping[str, str], Mapping[str, bytes]], Mechanism]]] = {
    "PLAIN": plain,
    "LOGIN": login,
    "XOAUTH2": xoauth2,
    "SCRAM-SHA-256": scram,
    "SCRAM-SHA-256-PLUS": scram_plus,
}
#: The server speaks first: an initial response is a mistake (RFC 4954 section 4).
SERVER_FIRST: Final = frozenset({"LOGIN"})
#: They show the password, or what is as good, to whoever listens.
CLEAR: Final = frozenset({"PLAIN", "LOGIN", "XOAUTH2"})


def _scram(users: Mapping[str, str], bindings: Mapping[str, bytes], *, plus: bool) -> Mechanism:
    flag, _identity, bare = _parts((yield b""), 3)
    if plus is not flag.startswith("p="):
        raise ClientError(f"{flag} to {'-PLUS' if plus else 'SCRAM without -PLUS'}")
    name, nonce = (_value(key, part) for key, part in zip("nr", _parts(bare, 2), strict=True))
    user = name.replace("=2C", ",").replace("=3D", "=")
    server_first = f"r={nonce}{'ours+' * 4},s={base64.b64encode(_SALT).decode()},i={_ITERATIONS}"
    final = yield server_first.encode()

    bound, theirs, proof = (_value(key, part) for key, part in zip("crp", _parts(final, 3), strict=True))
    header = f"{flag},{_identity},".encode()
    expected = header + (bindings.get(flag[2:], b"no such binding") if plus else b"")
    if base64.b64decode(bound) != expected:
        raise ClientError("a channel binding that is not this channel's")
    if theirs != nonce + "ours+" * 4:
        raise ClientError("another nonce than before")
    said = ",".join((bare, server_first, f"c={bound},r={theirs}")).encode()
    salted = hashlib.pbkdf2_hmac("sha256", users.get(user, "?").encode(), _SALT, _ITERATIONS)
    client_key = _hmac(salted, b"Client Key")
    signature = _hmac(hashlib.sha256(client_key).digest(), said)
    shown = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
    if user not in users or shown != client_key:
        return Unknown(user)
    if (yield b"v=" + base64.b64encode(_hmac(_hmac(salted, b"Server Key"), said))):
        raise ClientError("something was said to the server's proof")
    return user


def _parts(said: bytes | str, count: int) -> list[str]:
    text = said if isinstance(said, str) else said.decode()
    parts = text.split(",", count - 1)
    if len(parts) != count:
        raise ClientError(f"not {count} parts: {text}")
    return parts


def _value(key: str, part: str) -> str:
    if not part.startswith(f"{key}="):
        raise ClientError(f"not {key}=: {part}")
    return part[2:]


def _hmac(key: bytes, said: bytes) -> bytes:
    return hmac.new(key, said, hashlib.sha256).digest()


def decoded(text: str) -> bytes:
    """Base64, and nothing else. `ClientError` if it is not."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ClientError(f"no base64: {text!r}") from None
