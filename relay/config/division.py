"""
What one of several processes may do of what the settings promise for the relay as a whole.

Some limits can be counted together (`relay.net.tallies`), and stay as they are. Those of delivery, of memory and of the
disk cannot, or not without asking somebody about each message: they are divided, so that all parts together are the
whole. Only where there is less than one for each process do all parts together have more.
"""

from __future__ import annotations

import os

from relay.config.delivery import ConcurrencySettings, ConnectionSettings, DeliverySettings, DestinationSettings
from relay.config.settings import Settings
from relay.config.units import MIB


def count_of(settings: Settings) -> int:
    """How many workers these settings ask for, on this machine."""
    workers = settings.process.workers
    return len(os.sched_getaffinity(0)) if workers == "auto" else workers


def divided(settings: Settings, count: int, index: int = 0) -> Settings:
    """The settings of the process with this index, of so many that share the work. One alone has all of it."""
    if count == 1:
        return settings
    limits, history = settings.limits, settings.history
    return settings.model_copy(
        update={
            "limits": limits.model_copy(
                update={
                    "memory": min(limits.memory, max(MIB, part(limits.memory, count, index))),
                    "waiting_commits": part(limits.waiting_commits, count, index),
                }
            ),
            "history": history.model_copy(update={"size": min(history.size, max(MIB, history.size // count))}),
            "delivery": _delivery(settings.delivery, count, index),
        }
    )


def part(whole: int, count: int, index: int) -> int:
    """The part with this index of so many. All parts are the whole, unless some would be nothing."""
    return max(1, whole // count + (index < whole % count))


def part_of_rate(rate: tuple[int, float], count: int, index: int) -> tuple[int, float]:
    """So many in so many seconds, by each: together they are the rate. Who may send less than one gets more time."""
    messages, seconds = rate
    if messages < count:
        return 1, seconds * count / messages
    return part(messages, count, index), seconds


def _delivery(delivery: DeliverySettings, count: int, index: int) -> DeliverySettings:
    return delivery.model_copy(
        update={
            "concurrency": _concurrency(delivery.concurrency, count, index),
            "connections": _connections(delivery.connections, count, index),
            "destination": tuple(_destination(each, count, index) for each in delivery.destination),
        }
    )


def _concurrency(whole: ConcurrencySettings, count: int, index: int) -> ConcurrencySettings:
    return whole.model_copy(
        update={name: part(getattr(whole, name), count, index) for name in ("first", "most", "total")}
    )


def _connections(whole: ConnectionSettings, count: int, index: int) -> ConnectionSettings:
    # None at all is none for everybody.
    most = whole.most and part(whole.most, count, index)
    return whole.model_copy(update={"most": most, "of_host": part(whole.of_host, count, index)})


def _destination(whole: DestinationSettings, count: int, index: int) -> DestinationSettings:
    return whole.model_copy(
        update={
            "rate": whole.rate and part_of_rate(whole.rate, count, index),
            "most": whole.most and part(whole.most, count, index),
        }
    )
