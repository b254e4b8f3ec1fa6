"""`use = "alias"`: recipients that stand for others."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Self, TypeAlias

from attrs import frozen
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from zope.interface import implementer

from relay.config.fields import Domain
from relay.interfaces import IRoutingPolicy, ITable, World
from relay.mail.address import Address, canonical_domain, parse_address
from relay.mail.routing import ABSTAIN, Inquiry, Rewrite, RoutingVerdict
from relay.policy.expansion import MEMBERS
from relay.policy.lookup import TableOptions, is_plain
from relay.policy.names import fold, without_detail

#: An address as it is looked up: its folded local part, and its domain.
Key: TypeAlias = tuple[str, str]


def _known_form(text: str) -> str:
    """`local@domain`, `local@` or `@domain`. Raises `ValueError`."""
    if "@" not in text:
        raise ValueError(
            "should be like 'info@example.org', 'info@' (in each of 'domains') or '@example.org' (the rest)"
        )
    if text.startswith("@"):
        canonical_domain(text[1:])
    else:
        _address(text, "example.org")
    return text


def _target(text: str) -> str:
    """`local@domain` or `local@`. Raises `ValueError`."""
    if "@" not in text:
        raise ValueError("should be like 'jon@example.org', or 'jon@' (in the same domain)")
    _address(text, "example.org")
    return text


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _address(text: str, domain: str) -> Address:
    return parse_address(text + domain if text.endswith("@") else text)


AliasName = Annotated[str, AfterValidator(_known_form)]
Target = Annotated[str, AfterValidator(_target)]
Targets = Annotated[tuple[Target, ...], Field(min_length=1, max_length=MEMBERS), BeforeValidator(_several)]


class AliasOptions(TableOptions):
    """What `[[policy]] use = "alias"` may say: `aliases`, or where a table of them is."""

    aliases: dict[AliasName, Targets] | None = Field(
        default=None,
        min_length=1,
        description='Who stands for whom: `"info@example.org" = ["jon@example.org", "ann@example.net"]`. `"info@"` is '
        'for each of `domains`; `"@example.org"` is for everyone there who stands nowhere in the table. `"jon@"` as '
        "a target is in the alias's domain. Who stands for itself keeps a copy.",
    )
    domains: tuple[Domain, ...] = Field(default=(), description="Where aliases without a domain are.")
    detail: str = Field(
        default="+",
        max_length=1,
        description="What ends the name in `info+offer@example.org`, which is for `info`. Empty: nothing does.",
    )

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if (self.aliases is None) == (self.table_or_file is None):
            raise ValueError("should have either 'aliases' or one of 'table' and 'file'")
        if self.aliases is None:
            return self
        for circle in _circles(_table(self.aliases, self.domains)):
            raise ValueError(
                "aliases lead in a circle: " + " -> ".join(f"{local}@{domain}" for local, domain in circle)
            )
        return self


@implementer(IRoutingPolicy)
class Alias:
    """
    Says for whom a recipient stands. The chain asks again about each of them.

    A catch-all does not catch those to whom the table sends mail: they are real, or it would lead in a circle.
    """

    Options = AliasOptions

    def __init__(self, options: AliasOptions, world: World) -> None:
        self._detail = options.detail
        self._in_table: InTable | None = None
        if options.aliases is None:
            self._in_table = InTable(_table_of(options, world), options.domains, options.detail)
            return
        table = _table(options.aliases, options.domains)
        self._domains = frozenset(domain for _, domain in table)
        self._catch_all = {domain for local, domain in table if not local}
        self._verdicts: dict[Key, RoutingVerdict] = {}
        if self._catch_all:
            targets = (target for targets in table.values() for target in targets)
            self._verdicts.update({_key(target): ABSTAIN for target in targets})
        self._verdicts.update({key: _verdict(key, targets) for key, targets in table.items()})

    def route(self, inquiry: Inquiry) -> RoutingVerdict:
        recipient = inquiry.recipient
        if self._in_table is not None:
            return self._in_table.verdict(recipient)
        domain = recipient.domain
        if domain not in self._domains:
            return ABSTAIN
        name = fold(recipient.local)
        verdict = self._verdicts.get((name, domain))
        if verdict is None and (plain := without_detail(name, self._detail)) != name:
            verdict = self._verdicts.get((plain, domain))
        if verdict is None:
            verdict = self._verdicts.get(("", domain))
        return ABSTAIN if verdict is None else verdict


#: How many verdicts are kept ready.
_READY = 10_000
_BETWEEN = re.compile(r"[,\s]+")


class InTable:
    """
    Aliases in a table: each is looked up as it is needed, and nobody knows all of them.

    So a catch-all catches whoever is no key of the table, but those to whom it leads itself. Circles are found by the
    chain.
    """

    def __init__(self, table: ITable, domains: Iterable[str], detail: str) -> None:
        self._table = table
        self._domains = frozenset(domains)
        self._detail = detail
        #: By alias and by what the table says of it.
        self._ready: dict[tuple[Key, str], RoutingVerdict] = {}

    def verdict(self, recipient: Address) -> RoutingVerdict:
        """What the table says of this recipient. Raises as `ITable.get`."""
        name, domain = fold(recipient.local), recipient.domain
        plain = without_detail(name, self._detail)
        for local in (name,) if plain == name else (name, plain):
            value = self._table.get(f"{local}@{domain}")
            if value is None and domain in self._domains:
                value = self._table.get(f"{local}@")
            if value is not None:
                return self._saying((local, domain), value)
        value = self._table.get(f"@{domain}")
        if value is None:
            return ABSTAIN
        verdict = self._saying(("", domain), value)
        caught = isinstance(verdict, Rewrite) and (plain, domain) not in map(_key, verdict.recipients)
        return verdict if caught else ABSTAIN

    def _saying(self, key: Key, value: str) -> RoutingVerdict:
        verdict = self._ready.get((key, value))
        if verdict is None:
            if len(self._ready) >= _READY:
                self._ready.clear()
            targets = tuple(dict.fromkeys(_address(target, key[1]) for target in _targets_in(value)))
            verdict = self._ready[key, value] = _verdict(key, targets)
        return verdict


def _table_of(options: AliasOptions, world: World) -> ITable:
    source = options.table_or_file
    assert source is not None, "the options have seen to it"
    return world.table(source).checked(AliasesMakeSense(bool(options.domains)))


@frozen
class AliasesMakeSense:
    """Whether a line of a table is an alias: for `ITable.checked`."""

    #: The policy says where aliases without a domain are.
    domains: bool

    def __call__(self, key: str, value: str) -> None:
        if not is_plain(key):
            self._check_alias(key)
        if is_plain(value):
            return
        targets = _targets_in(value)
        if not 0 < len(targets) <= MEMBERS:
            raise ValueError(f"the alias {key!r} should stand for 1 to {MEMBERS} addresses, and not for {len(targets)}")
        for target in targets:
            if not is_plain(target):
                _target(target)

    def _check_alias(self, key: str) -> None:
        _known_form(key)
        local, _, domain = key.rpartition("@")
        if not domain and not self.domains:
            raise ValueError(f"the alias {key!r} has no domain, and neither has the policy 'domains'")
        if domain and canonical_domain(domain) != domain:
            raise ValueError(f"{key!r} is never looked up: write the domain as {canonical_domain(domain)!r}")
        if local != fold(local):
            raise ValueError(f"{key!r} is never looked up: write it as {fold(local)!r}")


def _targets_in(value: str) -> list[str]:
    """Addresses with commas or blanks between them."""
    return [target for target in _BETWEEN.split(value) if target]


def _table(aliases: Mapping[str, Iterable[str]], domains: Iterable[str]) -> dict[Key, tuple[Address, ...]]:
    """The aliases, each with its domain; a catch-all has no local part. Raises `ValueError` if one is there twice."""
    table: dict[Key, tuple[Address, ...]] = {}
    for alias, targets in aliases.items():
        for local, domain in _keys(alias, domains):
            if (local, domain) in table:
                raise ValueError(f"the alias '{local}@{domain}' is there twice")
            table[local, domain] = tuple(dict.fromkeys(_address(target, domain) for target in targets))
    return table


def _keys(alias: str, domains: Iterable[str]) -> Iterator[Key]:
    if alias.startswith("@"):
        yield "", canonical_domain(alias[1:])
    elif alias.endswith("@"):
        domains = tuple(dict.fromkeys(domains))
        if not domains:
            raise ValueError(f"the alias '{alias}' has no domain, and neither are there 'domains'")
        for domain in domains:
            yield _key(_address(alias, domain))
    else:
        yield _key(parse_address(alias))


def _key(address: Address) -> Key:
    return fold(address.local), address.domain


def _verdict(alias: Key, targets: tuple[Address, ...]) -> RoutingVerdict:
    if all(_key(target) == alias for target in targets):
        return ABSTAIN  # it only stands for itself: so it is real, whatever a catch-all says
    local, domain = alias
    return Rewrite(targets, because=f"alias {local}@{domain}")


def _circles(table: Mapping[Key, Iterable[Address]]) -> Iterator[tuple[Key, ...]]:
    """
    Ways from an alias back to itself. There is none from one that stands for itself, since it keeps a copy.

    Catch-alls are on no way: nobody whom the table sends mail to is caught.
    """
    for start, targets in table.items():
        if start in map(_key, targets):
            continue
        met: set[Key] = set()
        ways: list[tuple[Key, ...]] = [(start,)]
        while ways:
            way = ways.pop()
            for key in map(_key, table.get(way[-1], ())):
                if key == start:
                    yield (*way, key)
                elif key not in met:
                    met.add(key)
                    ways.append((*way, key))
