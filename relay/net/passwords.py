"""
The file of users and passwords: a line for each, with an argon2 hash and the keys for SCRAM.

    ann:$argon2id$v=19$m=65536,t=3,p=4$SALT$HASH:SCRAM-SHA-256$15000:SALT$STOREDKEY:SERVERKEY

Either may be left out, and the mechanisms that need it then fail for this user. The keys are written as RFC 5803 does,
and PostgreSQL. A line that begins with `#` means nothing. The line `:secret:` and base64 is no user: keys of users who
do not exist are made from it. Nothing here opens a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from argon2 import PasswordHasher
from attrs import field, frozen

from relay.smtp.sasl_lines import encode, strict
from relay.smtp.saslprep import Unpreparable, prepare
from relay.smtp.scram import SALT_OCTETS, SCRAM, ScramKeys

#: argon2-cffi's own parameters, which are those of RFC 9106 for machines with little memory: 64 MiB.
HASHER: Final = PasswordHasher()
DEFAULT_COST: Final = f"$argon2id$v=19$m={HASHER.memory_cost},t={HASHER.time_cost},p={HASHER.parallelism}$"

#: What the file may be at most: some ten thousand users.
LARGEST: Final = 4 * 1024 * 1024
LONGEST_USER: Final = 255
#: In UTF-8. PLAIN has to carry it in one line (RFC 4954 section 4).
LONGEST_PASSWORD: Final = 1024
SECRET_OCTETS: Final = 32

_ARGON2 = re.compile(
    r"(\$argon2(?:id|i|d)\$v=19\$m=[1-9][0-9]{0,6},t=[1-9][0-9]{0,3},p=[1-9][0-9]{0,2}\$)[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+\Z"
)
_SCRAM = re.compile(r"SCRAM-SHA-256\$([1-9][0-9]{0,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)\Z")
_NOBODYS: Final = ":secret:"


class Unsuitable(ValueError):
    """A name or a password that cannot be a user's. The words do not repeat it."""


@frozen
class Record:
    """A user's line."""

    user: str
    #: In the form of PHC: `$argon2id$v=19$...`.
    argon2: str | None = field(repr=False)
    scram: ScramKeys | None = field(repr=False)

    @classmethod
    def of(cls, user: str, password: str, salt: Callable[[int], bytes], hasher: PasswordHasher = HASHER) -> Record:
        """
        A line for this password. Takes a fifth of a second, on purpose. Raises `Unsuitable`.

        `salt` makes so many octets by chance.
        """
        prepared = prepared_password(password)
        return cls(prepared_user(user), hasher.hash(prepared), ScramKeys.of(prepared, salt(SALT_OCTETS)))

    @property
    def cost(self) -> str:
        """The parameters of the hash, as they stand before its salt; empty without a hash."""
        match = _ARGON2.match(self.argon2 or "")
        return "" if match is None else match[1]

    def line(self) -> str:
        return f"{self.user}:{self.argon2 or ''}:{'' if self.scram is None else _written(self.scram)}"


@frozen
class Passwords:
    """What a file says."""

    records: Mapping[str, Record] = field(repr=False)
    #: `None`: the file has no secret yet.
    secret: bytes | None = field(repr=False)


def nobodys_hash(cost: str, random: Callable[[int], bytes]) -> str:
    """A hash that no password has, and that costs as much to verify as those with these parameters."""
    salt, digest = (encode(random(octets)).rstrip(b"=").decode("ascii") for octets in (16, 32))
    return f"{cost}{salt}${digest}"


def prepared_user(user: str) -> str:
    """The name as it is compared. Raises `Unsuitable`."""
    try:
        prepared = prepare(user)
    except Unpreparable:
        raise Unsuitable(
            "a user's name has no control characters, and none that SASLprep (RFC 4013) prohibits"
        ) from None
    if not prepared:
        raise Unsuitable("a user's name is not empty")
    if ":" in prepared:
        raise Unsuitable("a user's name has no colon: the file has one behind the name")
    if prepared.startswith("#") or prepared != prepared.strip():
        raise Unsuitable("a user's name does not begin with #, and neither begins nor ends with a blank")
    if len(prepared.encode()) > LONGEST_USER:
        raise Unsuitable(f"a user's name has at most {LONGEST_USER} octets")
    return prepared


def prepared_password(password: str) -> str:
    """The password as it is compared. Raises `Unsuitable`."""
    try:
        prepared = prepare(password, stored=True)
    except Unpreparable:
        raise Unsuitable(
            "a password has no control characters, and no others that not every mail program sends in the same way "
            "(SASLprep, RFC 4013), such as emoji"
        ) from None
    if not prepared:
        raise Unsuitable("a password is not empty")
    if len(prepared.encode()) > LONGEST_PASSWORD:
        raise Unsuitable(f"a password has at most {LONGEST_PASSWORD} octets")
    return prepared


def parse(text: str) -> Passwords:
    """
    What the file says. One line that makes no sense spoils it: whoever is meant by it must not be forgotten, or kept.

    Raises `ValueError`, which names the line and repeats nothing of it.
    """
    records: dict[str, Record] = {}
    secret = None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(_NOBODYS):
            secret = strict(line[len(_NOBODYS) :].encode())
            if secret is None or len(secret) < SECRET_OCTETS:
                raise ValueError(f"line {number}: the secret is not {SECRET_OCTETS} octets in base64")
            continue
        try:
            record = _record(line)
        except ValueError as problem:
            raise ValueError(f"line {number}: {problem}") from None
        if record.user in records:
            raise ValueError(f"line {number}: the user has a line already")
        records[record.user] = record
    return Passwords(records, secret)


def rewritten(text: str, user: str, record: Record | None, new_secret: bytes) -> str:
    """
    The file's text with this user's line replaced or, for `None`, left out; every other line stays as it is.

    A file without a secret gets this one.
    """
    lines = text.removesuffix("\n").split("\n") if text else []
    kept = list(_replaced(lines, user, record))
    if not any(line.startswith(_NOBODYS) for line in kept):
        kept.insert(0, _NOBODYS + encode(new_secret).decode("ascii"))
    return "\n".join(kept) + "\n"


def _replaced(lines: list[str], user: str, record: Record | None) -> Iterator[str]:
    missing = record
    for line in lines:
        if not line.startswith(f"{user}:"):
            yield line
        elif missing is not None:
            yield missing.line()
            missing = None
    if missing is not None:
        yield missing.line()


def _record(line: str) -> Record:
    name, *fields = line.split(":", 2)
    if len(fields) != 2:
        raise ValueError("not a name, a hash and keys with colons between them")
    if prepared_user(name) != name:
        raise ValueError("the name is not as SASLprep makes it")
    argon2, scram = fields
    if argon2 and not _ARGON2.match(argon2):
        raise ValueError("not an argon2 hash; relayctl passwd makes them")
    return Record(name, argon2 or None, _read(scram) if scram else None)


def _written(keys: ScramKeys) -> str:
    salt, stored, server = (encode(octets).decode("ascii") for octets in (keys.salt, keys.stored_key, keys.server_key))
    return f"{SCRAM}${keys.iterations}:{salt}${stored}:{server}"


def _read(scram: str) -> ScramKeys:
    match = _SCRAM.match(scram)
    octets = [] if match is None else [strict(text.encode()) for text in match.groups()[1:]]
    match octets:
        case [bytes(salt), bytes(stored), bytes(server)] if salt and len(stored) == len(server) == 32:
            assert match is not None
            return ScramKeys(salt, int(match[1]), stored, server)
        case _:
            raise ValueError("not keys of SCRAM-SHA-256; relayctl passwd makes them")
