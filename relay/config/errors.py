"""What is wrong with a configuration, said so that the operator can mend it."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen


@frozen
class Problem:
    """
    One thing that is wrong, and where.

    Its `str` is what the operator reads:
    `relay.toml:12: policy.2.domians: unknown key, did you mean 'domains'?`
    """

    #: The file, by the name that the operator gave.
    file: str
    #: Counts from 1; `None` if no line is to blame, as when the file cannot be read.
    line: int | None
    #: The key with its tables, where entries of lists count from 1 (`policy.2.domains`); empty if none is to blame.
    key: str
    text: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}"


class ConfigurationError(Exception):
    """The configuration cannot be used. It carries every problem that was found, in the order of the lines."""

    problems: tuple[Problem, ...]

    def __init__(self, problems: Iterable[Problem]) -> None:
        # `sorted` is stable: what is wrong on one line stays in the order in which it was found.
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))
