"""
SCRAM-SHA-256: the arithmetic and the messages of RFC 5802 and RFC 7677, for both sides.

Nothing is decided here. What stands in a message is a value; a message that is none is `Garbled`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from attrs import field, frozen, validators

from relay.smtp.sasl_lines import encode, strict
from relay.smtp.saslprep import prepare

SCRAM: Final = "SCRAM-SHA-256"
SCRAM_PLUS: Final = "SCRAM-SHA-256-PLUS"

#: The kinds of channel binding that we know, the best first (RFC 9266, RFC 5929 section 4).
BINDINGS: Final = ("tls-exporter", "tls-server-end-point")

#: RFC 7677 section 4 names 4096 as the least, and 15000 as a tenth of a second when it was written.
ITERATIONS: Final = 15_000
SALT_OCTETS: Final = 16
_DIGEST_OCTETS: Final = 32
_COUNT = re.compile(r"[1-9][0-9]{0,9}\Z")


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _hash(octets: bytes) -> bytes:
    return hashlib.sha256(octets).digest()


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _digest() -> bytes:
    return field(repr=False, validator=[validators.min_len(_DIGEST_OCTETS), validators.max_len(_DIGEST_OCTETS)])


@frozen
class ScramKeys:
    """
    What a server keeps of a password for SCRAM. One who has read it can pretend to be the server, and can try passwords
    against it, but cannot log in by it (RFC 5802 section 9).
    """

    salt: bytes = field(repr=False, validator=validators.min_len(1))
    iterations: int = field(validator=validators.ge(1))
    stored_key: bytes = _digest()
    server_key: bytes = _digest()

    @classmethod
    def of(cls, password: str, salt: bytes, iterations: int = ITERATIONS) -> ScramKeys:
        """Derived from a password; takes milliseconds. Raises `relay.smtp.saslprep.Unpreparable`."""
        salted = SaltedPassword.of(password, salt, iterations)
        return cls(salt, iterations, salted.stored_key, salted.server_key)

    @classmethod
    def nobodys(cls, user: str, secret: bytes) -> ScramKeys:
        """
        Keys that no password has, for a user who does not exist.

        The same for the same user as long as `secret` stays, as a real user's are: so that asking twice tells nothing.
        """
        octets = user.encode("utf-8", "surrogatepass")
        salt, stored, server = (_hmac(secret, b"%s:%s" % (kind, octets)) for kind in (b"salt", b"stored", b"server"))
        return cls(salt[:SALT_OCTETS], ITERATIONS, stored, server)

    def proved_by(self, proof: bytes, exchange: bytes) -> bool:
        """Whether who sent this proof, in this exchange, knows the password (RFC 5802 section 3)."""
        client_key = _xor(_hmac(self.stored_key, exchange), proof)
        return hmac.compare_digest(_hash(client_key), self.stored_key)

    def signature(self, exchange: bytes) -> bytes:
        """The proof that we know the user, for the client."""
        return _hmac(self.server_key, exchange)


@frozen
class SaltedPassword:
    """What a client derives from its password, and a server when it makes `ScramKeys`."""

    octets: bytes = _digest()

    @classmethod
    def of(cls, password: str, salt: bytes, iterations: int) -> SaltedPassword:
        """`Hi(Normalize(password), salt, i)`. Raises `relay.smtp.saslprep.Unpreparable`."""
        prepared = prepare(password, stored=True).encode("utf-8")
        return cls(hashlib.pbkdf2_hmac("sha256", prepared, salt, iterations))

    @property
    def client_key(self) -> bytes:
        return _hmac(self.octets, b"Client Key")

    @property
    def stored_key(self) -> bytes:
        return _hash(self.client_key)

    @property
    def server_key(self) -> bytes:
        return _hmac(self.octets, b"Server Key")

    def proof(self, exchange: bytes) -> bytes:
        return _xor(self.client_key, _hmac(self.stored_key, exchange))

    def signature(self, exchange: bytes) -> bytes:
        """What the server is to say at the end, if it is the one that knows us."""
        return _hmac(self.server_key, exchange)


# Messages, in the order in which they are sent (RFC 5802 section 7).


@frozen
class Garbled:
    """Not a message of SCRAM, and why; made of our own words."""

    why: str


@frozen
class ClientFirst:
    """Who the client is, and how it sees the channel."""

    #: `n`: it cannot bind to a channel. `y`: it could, and thinks that we cannot. `p`: it does, by `binding`.
    flag: str
    binding: str
    authzid: str
    user: str
    nonce: str
    #: As they came: these octets are part of what is signed.
    header: bytes = field(repr=False)
    bare: bytes = field(repr=False)


def client_first(flag: str, user: str, nonce: str) -> ClientFirst:
    """The message of a client. `flag` is `n`, `y`, or `p=` and the name of a binding."""
    header = f"{flag},,".encode("ascii")
    escaped = user.replace("=", "=3D").replace(",", "=2C")
    return ClientFirst(flag[0], flag[2:], "", user, nonce, header, f"n={escaped},r={nonce}".encode())


#: A client's: so that our answer, which repeats it, is one line of a reply. Programs make some twenty characters.
_LONGEST_NONCE: Final = 200


def read_client_first(octets: bytes) -> ClientFirst | Garbled:
    pieces = _text(octets).split(",", 2)
    if len(pieces) < 3:
        return Garbled("no header")
    flag, authzid, bare = pieces
    if flag not in ("n", "y") and not (flag.startswith("p=") and len(flag) > 2):
        return Garbled("the flag of channel binding is none")
    if authzid and not (authzid.startswith("a=") and len(authzid) > 2):
        return Garbled("a malformed authorization identity")
    match _attributes(bare):
        # Before the name there may only be `m=`, an extension that has to be understood, and there are none.
        case [("n", name), ("r", nonce), *_] if _is_nonce(nonce) and len(nonce) <= _LONGEST_NONCE:
            user, authorized = _name(name), _name(authzid[2:])
            if user is None or authorized is None:
                return Garbled("a malformed name")
            header = f"{flag},{authzid},".encode()
            return ClientFirst(flag[0], flag[2:], authorized, user, nonce, header, bare.encode())
        case _:
            return Garbled("not the first message of a client")


@frozen
class ServerFirst:
    """What the client needs to know to derive keys from its password."""

    #: The client's own, and the server's behind it.
    nonce: str
    salt: bytes = field(repr=False)
    iterations: int
    #: As it is sent.
    octets: bytes = field(repr=False)


def server_first(nonce: str, keys: ScramKeys) -> ServerFirst:
    octets = b"r=%s,s=%s,i=%d" % (nonce.encode("ascii"), encode(keys.salt), keys.iterations)
    return ServerFirst(nonce, keys.salt, keys.iterations, octets)


def read_server_first(octets: bytes) -> ServerFirst | Garbled:
    match _attributes(_text(octets)):
        case [("r", nonce), ("s", salt), ("i", count), *_] if _is_nonce(nonce) and _COUNT.match(count):
            salted = strict(salt.encode())
            return ServerFirst(nonce, salted, int(count), octets) if salted else Garbled("a malformed salt")
        case _:
            return Garbled("not the first message of a server")


@frozen
class ClientFinal:
    """The client's proof."""

    #: The header of `ClientFirst`, and behind it what the channel is bound by.
    binding: bytes = field(repr=False)
    nonce: str
    proof: bytes = field(repr=False)
    #: All but the proof, as it came.
    unproved: bytes = field(repr=False)


def unproved(binding: bytes, nonce: str) -> bytes:
    """The last message of a client, but for its proof."""
    return b"c=%s,r=%s" % (encode(binding), nonce.encode("ascii"))


def client_final(unproved: bytes, proof: bytes) -> bytes:
    return unproved + b",p=" + encode(proof)


def read_client_final(octets: bytes) -> ClientFinal | Garbled:
    before, _, proof = _text(octets).rpartition(",p=")
    proved = strict(proof.encode())
    if proved is None or len(proved) != _DIGEST_OCTETS:
        return Garbled("no proof, or a malformed one")
    match _attributes(before):
        case [("c", binding), ("r", nonce), *_] if _is_nonce(nonce):
            bound = strict(binding.encode())
            return ClientFinal(bound, nonce, proved, before.encode()) if bound else Garbled("a malformed binding")
        case _:
            return Garbled("not the last message of a client")


def server_final(signature: bytes) -> bytes:
    """The server's proof."""
    return b"v=" + encode(signature)


def read_server_final(octets: bytes) -> bytes | Garbled:
    """The signature in it."""
    match _attributes(_text(octets)):
        case [("v", verifier), *_]:
            signature = strict(verifier.encode())
            return signature if signature else Garbled("a malformed proof of the server")
        case _:
            # `e=` and an error: its words are the peer's, and they say no more than that it failed.
            return Garbled("the server has not proved that it knows us")


def exchanged(first: ClientFirst, answer: ServerFirst, unproved: bytes) -> bytes:
    """`AuthMessage`: what both sides sign."""
    return b",".join((first.bare, answer.octets, unproved))


def _text(octets: bytes) -> str:
    """The message, or nothing at all, which is no message either, where it is not UTF-8 or has a NUL."""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return "" if "\0" in text else text


def _attributes(text: str) -> list[tuple[str, str]] | None:
    """The letters and the values, in order; `None` where one of them is none (`attr-val`)."""
    pieces = text.split(",")
    if any(len(piece) < 3 or piece[1] != "=" or not (piece[0].isascii() and piece[0].isalpha()) for piece in pieces):
        return None
    return [(piece[0], piece[2:]) for piece in pieces]


def _name(escaped: str) -> str | None:
    """A `saslname`: a comma is `=2C` in it, an equals sign `=3D`, and nothing else begins with one."""
    first, *rest = escaped.split("=")
    if not all(piece[:2] in ("2C", "3D") for piece in rest):
        return None
    return first + "".join(("," if piece[:2] == "2C" else "=") + piece[2:] for piece in rest)


def _is_nonce(text: str) -> bool:
    return all("!" <= c <= "~" for c in text)
