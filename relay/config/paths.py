"""Relative paths in a configuration are relative to the file that they stand in."""

from __future__ import annotations

import os.path
from pathlib import Path
from typing import Any

import attrs
from pydantic import BaseModel


def relative_to(base: Path, value: Any) -> Any:
    """
    `value` with every relative `Path` in it joined to `base`: in models, attrs values, lists and tables.

    So whoever writes the options of a policy says `directory: Path`, and has nothing else to do.
    """
    if isinstance(value, Path):
        return Path(os.path.normpath(base / value))
    if isinstance(value, BaseModel):
        changed = _changed(base, dict(value))
        return value.model_copy(update=changed) if changed else value
    if attrs.has(type(value)):
        changed = _changed(base, {name: getattr(value, name) for name in attrs.fields_dict(type(value))})
        return attrs.evolve(value, **changed) if changed else value
    if type(value) in (tuple, list, set, frozenset):
        return type(value)(relative_to(base, each) for each in value)
    if type(value) is dict:
        return {key: relative_to(base, each) for key, each in value.items()}
    return value


def _changed(base: Path, fields: dict[str, Any]) -> dict[str, Any]:
    resolved = {name: relative_to(base, value) for name, value in fields.items()}
    return {name: value for name, value in resolved.items() if value is not fields[name]}
