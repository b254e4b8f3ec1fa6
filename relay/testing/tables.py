"""Look-up tables in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zope.interface import implementer

from relay.interfaces import ITable
from relay.policy.names import fold


@implementer(ITable)
class MemoryTable:
    """What a dictionary says; letter case means nothing in keys. With a `problem`, everyone who asks is told that."""

    def __init__(self, values: Mapping[str, str] | None = None, problem: Exception | None = None) -> None:
        self.values = dict(values or {})
        self.problem = problem
        self._checks: list[Callable[[str, str], object]] = []

    def get(self, key: str) -> str | None:
        if self.problem is not None:
            raise ValueError(str(self.problem)) from self.problem
        self._check()
        return {fold(known): value for known, value in self.values.items()}.get(fold(key))

    def checked(self, check: Callable[[str, str], object]) -> MemoryTable:
        self._checks.append(check)
        self._check()
        return self

    def _check(self) -> None:
        for check in self._checks:
            for key, value in self.values.items():
                check(key, value)
