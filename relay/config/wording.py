"""
pydantic's errors in the operator's words.

pydantic says where in a model something does not fit, and in which alternative of a union. The operator wants to
know which key of the file is wrong, once, and what should stand there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Final, TypeAlias, Union, get_args, get_origin

from attrs import frozen
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from relay.config.lines import KeyPath

#: What a wrong key may have been meant to be: a hint, or nothing.
Hint: TypeAlias = Callable[[KeyPath], str]


@frozen
class Complaint:
    """A problem, before it is known on which line."""

    path: KeyPath
    text: str


_SHOULD_BE: Final = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "iterable_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dataclass_type": "a table",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "ip_any_network": "a network such as '10.0.0.0/8'",
    "ip_any_address": "an IP address",
}
_ENTRIES: Final = {"too_short": "at least {min_length}", "too_long": "at most {max_length}"}
_CHARACTERS: Final = {"string_too_short": "at least {min_length}", "string_too_long": "at most {max_length}"}


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`, did you mean 'domains'?`, or nothing if no word comes near."""
    near = get_close_matches(word, list(words), n=3)
    # Fingers that are too fast change the order of letters more often than letters.
    near.sort(key=lambda each: sorted(each) != sorted(word))
    return f", did you mean '{near[0]}'?" if near else ""


def complaints(error: ValidationError, document: object, hint: Hint) -> list[Complaint]:
    """
    What is wrong with `document`: one complaint for each key, however many alternatives of a union it failed.

    `hint` is asked about keys that are unknown.
    """
    texts: dict[KeyPath, list[str]] = {}
    found = [(_place(document, details), details) for details in error.errors(include_url=False)]
    for (path, union), details in found:
        inside = any(other[: len(path)] == path and len(other) > len(path) for (other, _), _ in found)
        if details["type"] == "too_short" and inside:  # pydantic does not count entries that are wrong
            continue
        further = any(len(other) > len(path) for (other, same), _ in found if same == union)
        if path == union and further:  # then another alternative of the union was meant
            continue
        text = _text(details, document_at(document, path), path, hint)
        if text not in texts.setdefault(path, []):
            texts[path].append(text)
    return [Complaint(path, _either(alternatives)) for path, alternatives in texts.items()]


def document_at(document: object, path: KeyPath) -> object:
    """The value at a path of a document; `None` where there is none."""
    for part in path:
        document = _inside(document, part)
    return document


def known_keys(model: type[BaseModel], path: KeyPath) -> set[str]:
    """The keys that the table at `path` may have, if the table at `()` is one of `model`'s."""
    kinds: list[Any] = [model]
    for part in path:
        kinds = [inner for kind in kinds for inner in _kinds_inside(kind, part)]
    return {key for kind in kinds if _is_model(kind) for key in _fields(kind)}


def _place(document: object, details: ErrorDetails) -> tuple[KeyPath, KeyPath | None]:
    """
    Which key of the document an error is about, and the key of the union in which it arose, if in any.

    pydantic's `loc` has the document's keys, and among them names of union members and the like.
    """
    path: KeyPath = ()
    union = None
    missing = details["loc"][-1:] if details["type"] == "missing" else ()  # a key that there should have been
    for part in details["loc"][: len(details["loc"]) - len(missing)]:
        inside = _inside(document, part)
        if inside is None:
            union = path
        else:
            path, document = (*path, part), inside
    return (*path, *missing), union


def _inside(document: object, part: str | int) -> object:
    if isinstance(document, dict) and isinstance(part, str):
        return document.get(part)
    if isinstance(document, Sequence) and not isinstance(document, str) and isinstance(part, int):
        return document[part] if 0 <= part < len(document) else None
    return None


def _text(details: ErrorDetails, value: object, path: KeyPath, hint: Hint) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return f"unknown key{hint(path)}"
    if kind in ("value_error", "assertion_error"):
        return str(context["error"]) or "is not right"
    if kind in _ENTRIES:
        return f"should have {_ENTRIES[kind].format(**context)} {_plural(context, 'entry', 'entries')}"
    if kind in _CHARACTERS:
        return f"should have {_CHARACTERS[kind].format(**context)} {_plural(context, 'character', 'characters')}"
    if kind not in _SHOULD_BE:
        message = details["msg"].replace("Input should", "should")
        return message[:1].lower() + message[1:]
    whole = {name: int(number) for name, number in context.items() if isinstance(number, float) and number.is_integer()}
    text = f"should be {_SHOULD_BE[kind].format(**{**context, **whole})}"
    if kind in ("literal_error", "enum") and isinstance(value, str):
        text += did_you_mean(value, re.findall(r"'([^']*)'", str(context["expected"])))
    return text


def _plural(context: dict[str, Any], one: str, several: str) -> str:
    return one if 1 in (context.get("min_length"), context.get("max_length")) else several


def _either(texts: Collection[str]) -> str:
    should = "should be "
    if all(text.startswith(should) for text in texts):
        return should + ", or ".join(text.removeprefix(should) for text in texts)
    return "; or ".join(texts)


# Which keys a table may have: through the annotations of models.


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The kinds of values that an annotation allows, without what is said about them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from _alternatives(member)
    else:
        yield annotation


def _kinds_inside(kind: Any, part: str | int) -> Iterator[Any]:
    if _is_model(kind):
        if part in _fields(kind):
            yield from _alternatives(_fields(kind)[str(part)].annotation)
        return
    arguments = [each for each in get_args(kind) if each is not Ellipsis]
    if arguments:  # the entries of a list, the values of a table
        yield from _alternatives(arguments[-1])


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """The model's fields by the keys they have in a file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}
