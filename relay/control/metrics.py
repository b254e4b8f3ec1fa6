"""
What the relay says of itself in numbers, by the names that Prometheus has for them (docs/metrics.md).

It is made of what `status` and `dest` answer, so it is the same page whether the relay is one process or several: what
a worker counts has its number as a label, and is gone from the page while that worker does not answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import frozen
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from relay.mail.waiting import OBSTACLES
from relay.net.maillog import EVENTS

#: Destinations that have numbers of their own: those with the most to do. A series for each domain that somebody has
#: ever written to would be too many.
MOST_DESTINATIONS: Final = 100
_STATES: Final = ("waiting", "active", "held")
#: What a destination is called in whose way nothing stands.
_WELL: Final = "none"


@frozen
class Numbers:
    """A collector, as prometheus_client has them, of two answers of the relay's desk."""

    status: Mapping[str, Any]
    #: `None`: they cannot be told now.
    destinations: Sequence[Mapping[str, Any]] | None

    def collect(self) -> Iterator[Metric]:
        workers = _workers(self.status)
        yield InfoMetricFamily("relay_build", "The version that runs.", value={"version": self.status["version"]})
        yield from _of_processes(workers)
        answering = [worker for worker in workers if worker["answers"]]
        yield from _of_mail(answering)
        yield from _of_queues(answering)
        if self.destinations is not None:
            yield from _of_destinations(self.destinations)


def _workers(status: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """A relay that is one process is its own worker."""
    workers: Sequence[Mapping[str, Any]] = status.get("workers") or [{**status, "worker": 0, "answers": True}]
    return workers


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"relay_{name}", text, labels=labels)


def _of_processes(workers: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    up = _gauge("worker_up", "1 if the process answers, 0 if not.", "worker")
    uptime = _gauge("uptime_seconds", "How long the process has run.", "worker")
    accepting = _gauge("accepting", "1 if mail is accepted, 0 if the spool has failed and is probed.", "worker")
    age = _gauge("configuration_age_seconds", "How long the configuration has been in force.", "worker")
    digest = InfoMetricFamily("relay_configuration", "The configuration in force.", labels=["worker"])
    for worker in workers:
        name = [str(worker["worker"])]
        up.add_metric(name, worker["answers"])
        if not worker["answers"]:
            continue
        uptime.add_metric(name, worker["up"])
        accepting.add_metric(name, worker["accepting"])
        configuration = worker["configuration"]
        if configuration is not None:
            age.add_metric(name, configuration["for"])
            digest.add_metric(name, {"digest": configuration["digest"]})
    yield from (up, uptime, accepting, age, digest)


def _of_mail(workers: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    connections = _gauge("connections", "Clients that are connected.", "worker", "listener")
    messages = CounterMetricFamily(
        "relay_messages", "Events of the mail log since the process was started.", labels=["worker", "event"]
    )
    for worker in workers:
        name = str(worker["worker"])
        for listener in worker["listeners"]:
            connections.add_metric([name, listener["name"]], listener["connections"])
        # One that has not happened yet is 0, so that its first time is seen as a step.
        for event in sorted(EVENTS | worker["counts"].keys()):
            messages.add_metric([name, event], worker["counts"].get(event, 0))
    yield from (connections, messages)


def _of_queues(workers: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    entries = _gauge("queue_entries", "Messages in the queue.", "worker")
    recipients = _gauge("queue_recipients", "Recipients in the queue by state.", "worker", "state")
    corrupt = _gauge("queue_corrupt_entries", "Entries that were set aside since they cannot be read.", "worker")
    oldest = _gauge("queue_oldest_seconds", "The age of the oldest message in the queue; 0 if it is empty.", "worker")
    for worker in workers:
        name, queue = str(worker["worker"]), worker["queue"]
        entries.add_metric([name], queue["entries"])
        for state in _STATES:
            recipients.add_metric([name, state], queue[state])
        corrupt.add_metric([name], queue["corrupt"])
        oldest.add_metric([name], queue["oldest_age"] or 0)
    yield from (entries, recipients, corrupt, oldest)


def _of_destinations(destinations: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    known = _gauge("destinations", "Destinations of which something is known, by what stands in their way.", "obstacle")
    counts = Counter(each["obstacle"] or _WELL for each in destinations)
    for obstacle in (_WELL, *sorted(reason.name.lower() for reason in OBSTACLES)):
        known.add_metric([obstacle], counts[obstacle])
    yield known
    busiest = sorted(destinations, key=lambda each: (-each["active"] - each["ready"], each["name"]))[:MOST_DESTINATIONS]
    for word, text in (
        ("active", "Attempts under way to one of the busiest destinations."),
        ("limit", "Attempts that there may be at once to it."),
        ("ready", "Recipients that wait for their turn to go there."),
    ):
        family = _gauge(f"destination_{word}", text, "destination")
        for each in busiest:
            family.add_metric([each["name"]], each[word])
        yield family
