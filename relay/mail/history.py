"""What happened to messages and to refusals, as values: for people to ask, never what was promised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import frozen

from relay.mail.explanation import Explanation

#: What JSON has a form for: texts, numbers, truth, and lists of texts.
Plain: TypeAlias = str | int | float | bool | list[str]


@frozen
class Happening:
    """An event of the mail log (docs/mail-log.md), as it was kept."""

    #: Seconds since the epoch, by the machine's clock at that moment.
    at: float
    what: str
    #: Those that say something, without the queue id.
    fields: Mapping[str, Plain]

    def text(self, name: str) -> str:
        """A field as text; "" where there is none."""
        value = self.fields.get(name, "")
        return value if isinstance(value, str) else str(value)

    def number(self, name: str) -> float | None:
        """A field as a number; `None` where there is none."""
        value = self.fields.get(name)
        return value if isinstance(value, int | float) else None

    def to_json(self) -> dict[str, Any]:
        return {"at": self.at, "what": self.what, "fields": dict(self.fields)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Happening:
        return cls(value["at"], value["what"], value["fields"])


@frozen
class Life:
    """All that is known of one message, or of one refusal that was none yet, in the order in which it happened."""

    #: The queue id, or "".
    id: str
    happenings: tuple[Happening, ...]
    #: So many more happenings stand between the first and the second half of these.
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "left_out": self.left_out, "happenings": [each.to_json() for each in self.happenings]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Life:
        """Raises `KeyError` or `TypeError` for what `to_json` never made."""
        return cls(value["id"], tuple(map(Happening.from_json, value["happenings"])), value["left_out"])


@frozen
class Findings:
    """What a history answers."""

    #: The newest first.
    lives: tuple[Life, ...]
    #: There are older ones besides.
    more: bool = False
    #: How far back the history goes: when its oldest life began, or `None` if it is empty.
    since: float | None = None
    #: How many events were dropped since the relay started.
    dropped: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "lives": [life.to_json() for life in self.lives],
            "more": self.more,
            "since": self.since,
            "dropped": self.dropped,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Findings:
        """Raises `KeyError` or `TypeError` for what `to_json` never made."""
        return cls(tuple(map(Life.from_json, value["lives"])), value["more"], value["since"], value["dropped"])


@frozen
class Account:
    """How a decision of a running relay came about."""

    #: Seconds since the epoch, by the machine's clock at that moment.
    at: float
    #: The queue id of the message, or "".
    id: str
    #: The reference in the reply, or "".
    ref: str
    explanation: Explanation

    def to_json(self) -> dict[str, Any]:
        return {"at": self.at, "id": self.id, "ref": self.ref, "explanation": self.explanation.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Account:
        return cls(value["at"], value["id"], value["ref"], Explanation.from_json(value["explanation"]))


@frozen
class Accounts:
    """What a history answers to "why"; as `Findings`."""

    #: The newest first.
    accounts: tuple[Account, ...]
    more: bool = False
    since: float | None = None
    dropped: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "accounts": [account.to_json() for account in self.accounts],
            "more": self.more,
            "since": self.since,
            "dropped": self.dropped,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Accounts:
        """Raises `KeyError`, `TypeError` or `ValueError` for what `to_json` never made."""
        return cls(tuple(map(Account.from_json, value["accounts"])), value["more"], value["since"], value["dropped"])
