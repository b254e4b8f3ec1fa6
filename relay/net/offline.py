"""The outside where nobody is to be asked: for what is tried before it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from zope.interface import implementer

from relay.interfaces import HttpAnswer, HttpTrouble, IHttp, IResolver
from relay.mail.answer import Answer, Unanswered
from relay.net.resolver import local_answer


@implementer(IResolver, IHttp)
class Outside:
    """
    Answers as `answers` says, without which it does not; and says of itself that it was asked, by `asked`.

    What can be known without asking anybody (`localhost`) is no question.
    """

    def __init__(
        self, answers: Callable[[str, str], Answer] | None = None, asked: Callable[[], None] = lambda: None
    ) -> None:
        self._answers = answers
        self._asked = asked

    async def look_up(self, name: str, kind: str) -> Answer:
        local = local_answer(name, kind)
        if local is not None:
            return local
        if self._answers is not None:
            return self._answers(name, kind)
        self._asked()
        return Unanswered("nobody is asked")

    async def request(self, method: str, url: str, **more: Any) -> HttpAnswer:
        self._asked()
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise HttpTrouble("refused", "nobody is asked")
