"""
Asking several workers the same, and what comes of it.

Whoever is asked by an operator never tells a part as if it were the whole: where somebody has not answered, the answer
names them under `silent` (their numbers), and under `unheard` has a sentence for each that says why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from attrs import field, frozen
from twisted.internet.defer import CancelledError

from relay.control.api import Asked, Refused
from relay.net.together import together

_NOBODY: Final = "there is no worker at this moment; say it again in a moment"
#: From this status of HTTP's on it was not the question that was wrong.
NOT_NOW: Final = 500


class Silent(Refused):
    """There was no answer. What was to be done has not been, unless the sentence says that nobody can say so."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, 503)


class Ask(Protocol):
    """A way to ask one worker."""

    def __call__(
        self, path: str, words: Mapping[str, Any], act: bool, user: str | None = None, aside: bool = False
    ) -> Awaitable[Mapping[str, Any]]:
        """
        The worker's answer at this path of its desk; an `act` is done. Raises `Refused` as it does, and `Silent`.

        `user` is whose question it is. `aside`: another worker was told the same and has noted it, once for all.
        """


@frozen
class Worker:
    """A process of the relay, with a shard of its own."""

    index: int
    #: `None`: there is none at this moment.
    pid: int | None
    ask: Ask = field(eq=False)
    #: It listens nowhere: it delivers what is left in its shard, and answers for its history.
    retired: bool = False


Workers: TypeAlias = Callable[[], Sequence[Worker]]


@frozen
class Heard:
    """What workers have answered, each by its number."""

    said: Mapping[int, Mapping[str, Any]]
    #: Who understood, and says no.
    declined: Mapping[int, Refused]
    #: Who has said nothing, or cannot say it now.
    silent: Mapping[int, Refused]

    def something(self) -> Sequence[Mapping[str, Any]]:
        """All that was said. Raises `Refused` if that is nothing."""
        if not self.said:
            raise self.refusal()
        return list(self.said.values())

    def refusal(self) -> Refused:
        """What to say instead of an answer."""
        for refused in self.declined.values():
            # What one of them does not know, a silent one might.
            return Refused(f"{refused.sentence}; but {_listed(self.silent)}", 503) if self.silent else refused
        return Refused(_listed(self.silent) or _NOBODY, 503)

    def missing(self) -> dict[str, Any]:
        """What an answer has to say beside itself, if it is not of all."""
        without = {**self.silent, **(self.declined if self.said else {})}
        if not without:
            return {}
        return {"silent": sorted(without), "unheard": [_sentence(index, without[index]) for index in sorted(without)]}


async def ask_all(
    workers: Sequence[Worker],
    path: str,
    asked: Asked,
    *,
    act: bool = False,
    words: Callable[[Worker], Mapping[str, Any]] | None = None,
    aside: bool = False,
) -> Heard:
    """Ask them at the same time. `words` are for each of them what it is asked with, if that is not what was said."""

    def asked_of(worker: Worker) -> Awaitable[Mapping[str, Any] | Refused]:
        return answer_of(worker, path, asked, asked.words if words is None else words(worker), act, aside)

    answers = await together(asked_of(worker) for worker in workers)
    return sorted_out({worker.index: one for worker, one in zip(workers, answers, strict=True)})


async def answer_of(
    worker: Worker, path: str, asked: Asked, words: Mapping[str, Any], act: bool, aside: bool = False
) -> Mapping[str, Any] | Refused:
    """What it says, with these words instead of those that were said; or why it does not."""
    try:
        return await worker.ask(path, words, act, asked.user, aside)
    except CancelledError:
        raise
    except Refused as refused:
        return refused


def sorted_out(answers: Mapping[int, Mapping[str, Any] | Refused]) -> Heard:
    """Answers by the numbers of who has given them."""
    said: dict[int, Mapping[str, Any]] = {}
    declined: dict[int, Refused] = {}
    silent: dict[int, Refused] = {}
    for index, one in answers.items():
        if not isinstance(one, Refused):
            said[index] = one
        else:
            (declined if one.status < NOT_NOW else silent)[index] = one
    return Heard(said, declined, silent)


def _listed(silent: Mapping[int, Refused]) -> str:
    return "; ".join(_sentence(index, silent[index]) for index in sorted(silent))


def _sentence(index: int, refused: Refused) -> str:
    return f"worker {index}: {refused.sentence}"
