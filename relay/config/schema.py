"""
The JSON schema of a configuration file, for editors: they complete keys, show what each means, and mark wrong ones.

`relay.config.load` does not use it; it says more than a schema can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from relay.config.policies import PolicyKeys
from relay.config.settings import Settings
from relay.config.units import spell_duration, spell_size

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

#: `use = "package.module:Class"`: its options are its own.
_OWN_CLASS: Final = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$"


def schema(option_models: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """
    The schema, with the options of the policies that there are: `option_models` has their models by `use`.

    Every `[[policy]]` is one of several objects, each with the common keys and one policy's options. That is plainer
    than conditions, and editors that complete keys understand it.
    """
    described = {use: model for use, model in option_models.items() if _can_be_described(model)}
    models: list[type[BaseModel]] = list(dict.fromkeys([Settings, PolicyKeys, *described.values()]))
    places, generated = models_json_schema(
        [(model, "validation") for model in models], schema_generator=_ForToml, ref_template="#/$defs/{model}"
    )
    definitions = generated["$defs"]

    def definition(model: type[BaseModel]) -> dict[str, Any]:
        found: dict[str, Any] = definitions[places[model, "validation"]["$ref"].removeprefix("#/$defs/")]
        return found

    common = definition(PolicyKeys)
    policies = [_policy(use, common, definition(model)) for use, model in sorted(described.items())]
    policies += [_any_options(use, common) for use in sorted(option_models.keys() - described.keys())]
    policies.append(_any_options(None, common))

    root = definition(Settings)
    properties = {**root["properties"], "policy": {**root["properties"]["policy"], "items": {"anyOf": policies}}}
    whole = {"$schema": _DIALECT, **root, "title": "Configuration of the relay", "properties": properties}
    return {**whole, "$defs": _reachable(whole, definitions)}


def _policy(use: str, common: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """A `[[policy]]` that says `use = ...` and has its options."""
    properties = {**options.get("properties", {}), **common["properties"]}
    described = {**common["properties"]["use"], "const": use}
    return {
        "title": use,
        "description": options.get("description", ""),
        "type": "object",
        "properties": {**properties, "use": described},
        "required": ["use", *(key for key in options.get("required", ()) if key != "use")],
        "additionalProperties": options.get("additionalProperties", True),
    }


def _any_options(use: str | None, common: dict[str, Any]) -> dict[str, Any]:
    """A `[[policy]]` of whose options no more is known than that it has some."""
    which = {"pattern": _OWN_CLASS} if use is None else {"const": use}
    return {
        "title": use or "package.module:Class",
        "type": "object",
        "properties": {**common["properties"], "use": {**common["properties"]["use"], **which}},
        "required": ["use"],
    }


class _ForToml(GenerateJsonSchema):
    """JSON schema as pydantic makes it, but for TOML, which has no null, and for people, who do not count octets."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        default = described.get("default")
        if default is None or default == "" or isinstance(default, dict) or (not default and "minItems" in described):
            return {key: value for key, value in described.items() if key != "default"}
        match described.get("x-unit"):
            case "second":
                return {**described, "default": spell_duration(default)}
            case "octet":
                return {**described, "default": spell_size(default)}
        return described


def _can_be_described(model: type[BaseModel]) -> bool:
    """Whether there is a schema for a plugin's options: not everything that Python can check has one."""
    try:
        model.model_json_schema(schema_generator=_ForToml)
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError):
        return False
    return True


def _reachable(schema: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions that the schema refers to, and those that they refer to."""
    found: dict[str, Any] = {}
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).removeprefix("#/$defs/")
            if name in definitions and name not in found:
                found[name] = definitions[name]
                waiting.append(definitions[name])
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return dict(sorted(found.items()))
