"""
The tables of docs/configuration.md, made of the models.

Each stands between `<!-- limits -->` and `<!-- end -->`. After a change of the models, write them anew with
`python -m tests.config_reference`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from relay.config.schema import schema
from relay.policy.registry import SHIPPED, option_model

PAGE = Path(__file__).parent.parent / "docs/configuration.md"

_TABLE = re.compile(r"<!-- (?P<name>[a-z.-]+) -->\n\n(?P<table>.*?)\n<!-- end -->\n", re.DOTALL)


def tables() -> dict[str, str]:
    """Every table of settings by its key in the file, as Markdown; the relay's own keys are `top`."""
    models = {use: model for use in SHIPPED if (model := option_model(use)) is not None}
    whole = schema(models)
    found = {"top": whole}
    policies = {each["title"]: each for each in whole["properties"]["policy"]["items"]["anyOf"]}
    common = policies.pop("package.module:Class")
    found["policy"] = common
    for use, policy in policies.items():
        own = {key: value for key, value in policy["properties"].items() if key not in common["properties"]}
        found[f"policy.{use}"] = {**policy, "properties": own}
    waiting = list(found.items())
    while waiting:
        name, table = waiting.pop()
        for key, described in table["properties"].items():
            inner = _definition(whole, described)
            if inner is not None:
                found[key if name == "top" else f"{name}.{key}"] = inner
                waiting.append((key if name == "top" else f"{name}.{key}", inner))
    return {name: _markdown(whole, table) for name, table in found.items()}


def _definition(whole: dict[str, Any], described: dict[str, Any]) -> dict[str, Any] | None:
    """The table that a key is, or of which it is a list."""
    reference = described.get("$ref") or described.get("items", {}).get("$ref")
    definition = whole["$defs"][reference.removeprefix("#/$defs/")] if reference else None
    return definition if definition and "properties" in definition else None


def _markdown(whole: dict[str, Any], table: dict[str, Any]) -> str:
    rows = ["| key | default | meaning |", "| --- | --- | --- |"]
    for key, described in table["properties"].items():
        if key == "policy" or _definition(whole, described) is not None:
            continue  # it has a table of its own
        if "default" in described:
            default = f"`{json.dumps(described['default'], ensure_ascii=False)}`"
        else:
            default = "needed" if key in table.get("required", ()) else ""
        text = " ".join(described.get("description", "").split()).replace("|", "\\|")
        rows.append(f"| `{key}` | {default} | {text} |")
    return "\n".join(rows) + "\n" if len(rows) > 2 else "It has no options.\n"


def tables_in(page: str) -> dict[str, str]:
    """The tables that stand in the page."""
    return {match["name"]: match["table"] for match in _TABLE.finditer(page)}


def rewritten(page: str) -> str:
    """The page with its tables as they should be."""
    made = tables()
    return _TABLE.sub(lambda match: f"<!-- {match['name']} -->\n\n{made[match['name']]}\n<!-- end -->\n", page)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
