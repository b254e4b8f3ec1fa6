"""
The tables of docs/agents.md, made of the models and of what statuses mean.

Each stands between `<!-- pipe -->` and `<!-- end -->`. Write them anew with `python -m tests.agents_reference`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from relay.agents.exits import EXITS, Meaning
from relay.agents.http_options import HttpParameters
from relay.agents.http_status import TABLE, Line
from relay.agents.parcels import Fate
from relay.agents.pipe_options import PipeParameters
from relay.config.units import spell_duration, spell_size

PAGE = Path(__file__).parent.parent / "docs/agents.md"

_TABLE = re.compile(r"<!-- (?P<name>[a-z]+) -->\n\n(?P<table>.*?)<!-- end -->\n", re.DOTALL)


def tables() -> dict[str, str]:
    return {
        "pipe": _table(("key", "default", "meaning"), _parameters(PipeParameters)),
        "exits": _table(("status", "name", "what becomes of the mail"), _exits()),
        "http": _table(("key", "default", "meaning"), _parameters(HttpParameters)),
        "statuses": _table(("status", "what becomes of the mail"), _statuses()),
    }


def _parameters(model: type[BaseModel]) -> Iterable[tuple[str, ...]]:
    properties = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        default = "needed" if field.is_required() else _default(field.default, properties[name])
        yield f"`{name}`", default, str(field.description)


def _default(value: Any, described: dict[str, Any]) -> str:
    if value is None:
        return ""
    unit = described.get("x-unit")
    spelled = spell_duration(value) if unit == "second" else spell_size(value) if unit == "octet" else value
    return f"`{json.dumps(spelled)}`"


def _exits() -> Iterable[tuple[str, ...]]:
    names = {getattr(os, name): name for name in dir(os) if name.startswith("EX_")}
    for status, meant in EXITS.items():
        yield str(status), f"`{names[status]}`", f"{_fate(meant)}: {meant.text}"


def _statuses() -> Iterable[tuple[str, ...]]:
    for line in TABLE:
        statuses = str(line.first) if line.first == line.last else f"{line.first} to {line.last}"
        others = " (all others)" if line.fate is Fate.FAILED and line.first != line.last else ""
        yield f"{statuses}{others}", f"{_fate(line)}: {line.text}" if line.text else _fate(line)


def _fate(meant: Meaning | Line) -> str:
    return f"{meant.fate.value} ({meant.status})" if meant.status else meant.fate.value


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def tables_in(page: str) -> dict[str, str]:
    return {match["name"]: match["table"].strip() + "\n" for match in _TABLE.finditer(page)}


def rewritten(page: str) -> str:
    made = tables()
    return _TABLE.sub(lambda match: f"<!-- {match['name']} -->\n\n{made[match['name']]}\n<!-- end -->\n", page)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
