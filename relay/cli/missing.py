"""An answer that lacks the part of a worker (docs/workers.md): a line on standard error, and a status of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import click

#: In what a command has of its own (`click.Context.meta`): the sentences that it has said.
_SAID: Final = "relay.cli.missing"


def note(answer: Any) -> Any:
    """The answer. What it lacks is said once, and `Whole` ends the command with 75."""
    context = click.get_current_context(silent=True)
    if context is not None:
        said: set[str] = context.meta.setdefault(_SAID, set())
        for line in lines(answer):
            if line not in said:
                said.add(line)
                click.echo(line, err=True)
    return answer


def lines(answer: Any) -> list[str]:
    """What an answer lacks, in words."""
    unheard = answer.get("unheard", ()) if isinstance(answer, Mapping) else ()
    return [f"not all of it: {sentence}" for sentence in unheard]


class Whole(click.Group):
    """Commands of which none ends as if it had been told everything, when it has not."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
        except SystemExit as ended:
            # Nothing was found, as far as is known.
            if ended.code not in (None, 0, 1) or not ctx.meta.get(_SAID):
                raise
        else:
            if not ctx.meta.get(_SAID):
                return result
        raise SystemExit(os.EX_TEMPFAIL)
