"""Addresses and domains as keys of a table: the options that name one, and how an address is found in it."""

import re
from typing import Self

from pydantic import Field, model_validator

from relay.config.fields import Place, Section, Word
from relay.interfaces import ITable
from relay.mail.address import Address, canonical_domain, parse_address
from relay.policy.names import fold

#: Nearly all addresses that people write: nothing has to be taken apart for them, which counts in a table of a million.
#: Labels with hyphens in their third and fourth place are of IDNA, and looked at.
_PLAIN = re.compile(
    r"(?=[^@]{1,64}@.{1,180}\Z)[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*"
    r"@(?:(?!..--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z]{1,20}\Z"
)
is_plain = _PLAIN.match

#: What stands for the null reverse-path.
NULL = "<>"


class TableOptions(Section):
    """Where a policy's table is, if it has one."""

    table: Word | None = Field(default=None, description="A `[[table]]`, by its name.")
    file: Place | None = Field(
        default=None, description="The same, as a file of two columns, or of CSV if its name ends in `.csv`."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.table is not None and self.file is not None:
            raise ValueError("should have one of 'table' and 'file'")
        return self

    @property
    def table_or_file(self) -> "str | Place | None":
        """What to ask `World.table` for."""
        return self.table or self.file


def find_address(table: ITable, address: Address | None) -> tuple[str, str] | None:
    """
    The key by which an address is found, and its value: itself, its domain, or `.example.org`, which is for all
    domains below. The narrowest decides.
    """
    if address is None:
        keys = [NULL]
    else:
        domain = address.domain
        keys = [f"{fold(address.local)}@{domain}", domain]
        if not domain.startswith("["):
            at = domain.find(".")
            while at >= 0:
                keys.append(domain[at:])
                at = domain.find(".", at + 1)
    for key in keys:
        value = table.get(key)
        if value is not None:
            return key, value
    return None


def check_key(key: str) -> None:
    """
    A key that `find_address` can find. Raises `ValueError` for one that it never would: in a domain that is written in
    another way than the relay writes it, for example.
    """
    if key == NULL or is_plain(key):
        return
    written = str(parse_address(key)) if "@" in key else canonical_domain(key.removeprefix("."))
    if "@" in key:
        local, _, domain = written.rpartition("@")
        expected = f"{fold(local)}@{domain}"
    else:
        expected = f".{written}" if key.startswith(".") else written
    if key != expected:
        raise ValueError(f"{key!r} is never looked up: write it as {expected!r}")
