"""What can be meant as it is written, and probably is not: the operator is warned."""

from __future__ import annotations

from collections.abc import Iterator

from relay.config.division import count_of
from relay.config.lines import KeyPath
from relay.config.settings import Settings
from relay.config.wording import Complaint


def doubts(settings: Settings) -> Iterator[Complaint]:
    """Each, at its key."""
    yield from _about_senders_and_recipients(settings)
    yield from _about_workers(settings)


def _about_senders_and_recipients(settings: Settings) -> Iterator[Complaint]:
    known, here = _known_domains(settings), settings.hostname or "localhost"
    for index, policy in enumerate(settings.policy):
        for key, names in (("recipient", policy.when.recipient), ("sender", policy.when.sender)):
            for number, name in enumerate(names):
                if _may_be_a_user(name) and name not in known:
                    yield Complaint(
                        ("policy", index, "when", key, number),
                        f"'{name}' is taken for a domain: an address is written like '{name}@{here}'",
                    )


def _about_workers(settings: Settings) -> Iterator[Complaint]:
    """What is divided among workers should be enough for each of them to have one."""
    workers, delivery = count_of(settings), settings.delivery
    limits: list[tuple[KeyPath, int | None]] = [
        (("delivery", "concurrency", "most"), delivery.concurrency.most),
        (("delivery", "concurrency", "total"), delivery.concurrency.total),
    ]
    limits += [(("delivery", "destination", at, "most"), each.most) for at, each in enumerate(delivery.destination)]
    for path, most in limits:
        if most is not None and most < workers:
            yield Complaint(path, f"there are {workers} workers, and each of them may have one: so it is {workers}")


def _may_be_a_user(name: str) -> bool:
    return "." not in name and not name.startswith(("[", "<"))


def _known_domains(settings: Settings) -> set[str]:
    known = {"localhost", settings.hostname or "localhost"}
    for policy in settings.policy:
        domains = getattr(policy.options, "domains", ())
        known.update(each for each in domains if isinstance(each, str))
    return known
