from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel
from twisted.trial.unittest import SynchronousTestCase

from relay.config.policies import PolicyKeys
from relay.config.schema import schema
from relay.config.settings import Settings
from relay.config.units import Duration, Size
from tests.config_options import MODELS, Mailbox


class Indescribable(BaseModel):
    """Options that Python can check and JSON schema cannot."""

    check: Callable[[str], bool] = str.islower


class Timely(BaseModel):
    """Waits."""

    pause: Duration = 300
    most: Size = 25 * 1024 * 1024


def policies(whole: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["title"]: each for each in whole["properties"]["policy"]["items"]["anyOf"]}


def parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(inner)


class SchemaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.whole = schema(MODELS)

    def test_it_says_which_dialect_it_is(self) -> None:
        self.assertEqual(self.whole["$schema"], "https://json-schema.org/draft/2020-12/schema")

    def test_it_is_json(self) -> None:
        self.assertEqual(json.loads(json.dumps(self.whole)), self.whole)

    def test_it_refers_to_nothing_but_itself_and_has_nothing_that_it_does_not_refer_to(self) -> None:
        references = {part["$ref"] for part in parts(self.whole) if "$ref" in part}
        self.assertEqual(references, {f"#/$defs/{name}" for name in self.whole["$defs"]})

    def test_it_knows_every_setting_and_no_other(self) -> None:
        self.assertEqual(self.whole["properties"].keys(), Settings.model_fields.keys())
        self.assertFalse(self.whole["additionalProperties"])

    def test_every_key_is_described(self) -> None:
        for part in parts(self.whole):
            for key, described in part.get("properties", {}).items():
                reference = self.whole["$defs"].get(described.get("$ref", "").removeprefix("#/$defs/"), {})
                if key not in Mailbox.model_fields and part.get("title") not in MODELS:
                    self.assertTrue(described.get("description") or reference.get("description"), key)

    def test_every_policy_brings_its_own_options(self) -> None:
        mailbox = policies(self.whole)["mailbox"]
        self.assertEqual(mailbox["properties"]["use"]["const"], "mailbox")
        self.assertEqual(mailbox["properties"].keys(), PolicyKeys.model_fields.keys() | Mailbox.model_fields.keys())
        self.assertEqual(mailbox["required"], ["use", "domains", "directory"])
        self.assertFalse(mailbox["additionalProperties"])
        self.assertEqual(mailbox["description"], "Mailboxes of people here.")
        self.assertEqual(policies(self.whole).keys(), {*MODELS, "package.module:Class"})

    def test_a_policy_of_ones_own_may_have_any_options(self) -> None:
        own = policies(self.whole)["package.module:Class"]
        self.assertRegex("my.policies:Weekend", own["properties"]["use"]["pattern"])
        self.assertNotRegex("mailbox", own["properties"]["use"]["pattern"])
        self.assertNotIn("additionalProperties", own)

    def test_options_that_cannot_be_described_do_not_stop_the_others(self) -> None:
        found = policies(schema({**MODELS, "odd": Indescribable}))
        self.assertEqual(found["odd"]["properties"]["use"]["const"], "odd")
        self.assertNotIn("additionalProperties", found["odd"])
        self.assertIn("mailbox", found)

    def test_defaults_are_as_people_write_them(self) -> None:
        limits = self.whole["$defs"]["Limits"]["properties"]
        self.assertEqual((limits["idle"]["default"], limits["message"]["default"]), ("5m", "25 MiB"))
        timely = policies(schema({"timely": Timely}))["timely"]["properties"]
        self.assertEqual((timely["pause"]["default"], timely["most"]["default"]), ("5m", "25 MiB"))

    def test_nothing_is_null_since_toml_has_none(self) -> None:
        self.assertNotIn(": null", json.dumps(self.whole))
        self.assertNotIn('"null"', json.dumps(self.whole))
