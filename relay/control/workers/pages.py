"""
Pages of an answer that several workers give together.

What has an order is told in that order: the queue of all shards by id. What is only added up goes on in each shard by
itself, and `after` has a place for each: `0=NG79W8MR4E21H9:NG79W8MR4E21H9.0,2=NG79W9...`; who is not in it has come to
the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from relay.control.api import Refused
from relay.control.workers.asking import Worker

#: As few of a page are worth a question, if so many are wanted.
_LEAST: Final = 100


@frozen
class Places:
    """How far each worker has come, by its number."""

    after: Mapping[int, str]

    @classmethod
    def of(cls, workers: Sequence[Worker], after: str) -> Places:
        """The places that `after` names; of the first page, the beginning of each. Raises `Refused`."""
        if not after:
            return cls({worker.index: "" for worker in workers})
        places: dict[int, str] = {}
        for each in after.split(","):
            index, equals, place = each.partition("=")
            if not (equals and place and index.isascii() and index.isdigit() and len(index) < 10):
                raise Refused("'after' is what the page before has said as 'next'")
            places[int(index)] = place
        # A shard that has gone since then was empty.
        return cls({worker.index: places[worker.index] for worker in workers if worker.index in places})

    @classmethod
    def next(cls, said: Mapping[int, Mapping[str, Any]]) -> str:
        """Where these answers go on; "" at the end of all."""
        return ",".join(f"{index}={answer['next']}" for index, answer in said.items() if answer["next"])


def part_of(most: int, workers: int) -> int:
    """How many each is asked for, if so many are wanted of all together."""
    return min(most, max(-(-most // max(1, workers)), _LEAST))


def merged(answers: Sequence[Mapping[str, Any]], most: int) -> tuple[list[Mapping[str, Any]], str]:
    """
    One page of the queue out of pages that begin at the same place, and where the next one begins.

    It ends where the first of them ends that goes on: behind that place nobody knows what the one has that others lack.
    """
    ends = [answer["next"] for answer in answers if answer["next"]]
    end = min(ends, key=_place) if ends else ""
    entries = sorted((entry for answer in answers for entry in answer["entries"]), key=lambda entry: str(entry["id"]))
    last = _place(end)[0]
    page: list[Mapping[str, Any]] = []
    count = 0
    for entry in entries:
        if end and entry["id"] > last:
            return page, end
        if count >= most:
            return page, f"{page[-1]['id']}:{page[-1]['recipients'][-1]['id']}"
        page.append(entry)
        count += len(entry["recipients"])
    return page, end


def _place(key: str) -> tuple[str, str]:
    """In the order of the queue (`relay.mail.selection.Queued.key`)."""
    entry, _, id = key.partition(":")
    return entry, id
