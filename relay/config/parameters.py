"""
An agent's parameters: what the configuration says in TOML, a verdict keeps as text, and the agent reads again.

A `Deliver` has parameters of text, since the spool keeps it. What is text already stands for itself there; anything
else (numbers, booleans, lists, tables) is written as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from relay.config.wording import Complaint, complaints, did_you_mean

Model = TypeVar("Model", bound=BaseModel)

_UNKNOWN: Final = "unknown_parameter"


def checked(model: type[Model], table: Mapping[str, Any]) -> Model:
    """
    The parameters that this table of the configuration asks for.

    Raises pydantic's `ValidationError`; unknown keys in it say what may have been meant.
    """
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise ValidationError.from_exception_data(error.title, [_with_hint(each, model) for each in details]) from None


def _with_hint(details: Any, model: type[BaseModel]) -> InitErrorDetails:
    kind, path = details["type"], details["loc"]
    if kind == "extra_forbidden" and len(path) == 1:
        # Escaped, since pydantic puts its context into it.
        text = f"unknown key{did_you_mean(str(path[0]), model.model_fields)}".replace("{", "{{").replace("}", "}}")
        return InitErrorDetails(type=PydanticCustomError(_UNKNOWN, text), loc=path, input=details["input"])
    return InitErrorDetails(type=kind, loc=path, input=details["input"], ctx=details.get("ctx", {}))


def as_text(parameters: BaseModel) -> dict[str, str]:
    """The parameters as text; what is as by default is left out, so that it follows the defaults of the day."""
    said = parameters.model_dump(mode="json", exclude_defaults=True, by_alias=True)
    return {key: text_of(value) for key, value in said.items() if value is not None}


def text_of(value: object) -> str:
    """One value as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def from_text(model: type[Model], parameters: Mapping[str, str]) -> Model:
    """
    The parameters as the agent's model has them. Raises `ValueError` with all that is wrong, in one line.

    Each is first taken for what it says, and where that does not fit, for the JSON of what it means.
    """
    values: dict[str, Any] = dict(parameters)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        misfits = {str(details["loc"][0]) for details in error.errors(include_url=False) if details["loc"]}
    for key in misfits & values.keys():
        try:
            values[key] = json.loads(values[key])
        except (ValueError, RecursionError):
            continue  # it is wrong, and the model will say why
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = complaints(error, values, lambda path: did_you_mean(str(path[-1]), model.model_fields))
        raise ValueError("; ".join(map(_sentence, found))) from None


def _sentence(complaint: Complaint) -> str:
    return f"{'.'.join(map(str, complaint.path)) or 'they'}: {complaint.text}"
