from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay import plugins
from relay.config.errors import ConfigurationError
from relay.config.policies import PolicySettings, When
from relay.interfaces import IPolicyMaker, IRoutingPolicy, World
from relay.mail.decision import Refused
from relay.mail.routing import ABSTAIN, Inquiry
from relay.net.waiting import start
from relay.policy.assembly import make_chain
from relay.policy.registry import (
    PHASES,
    SHIPPED,
    NoOptions,
    PolicyPlugin,
    make_policy,
    option_model,
    option_models,
)
from relay.testing.policy import inquiry, world

#: A module of a third party.
HOLIDAY = """
from pydantic import BaseModel, Field
from zope.interface import implementer
from relay.interfaces import IRoutingPolicy
from relay.mail.reply import Reply
from relay.mail.routing import Delay
from relay.policy.registry import PolicyPlugin


@implementer(IRoutingPolicy)
class Holiday:
    class Options(BaseModel, extra="forbid"):
        text: str = Field(default="on holiday", description="What the sender is told.")

    def __init__(self, options, world):
        self.options, self.world = options, world

    def route(self, inquiry):
        return Delay(Reply.of(450, "4.2.1", self.options.text))


class Nested:
    Inner = Holiday


beach = PolicyPlugin("beach", Holiday)
nothing = object()
"""


@implementer(IRoutingPolicy)
class Plain:
    """A policy without options."""

    def __init__(self, options: Any, world: World) -> None:
        self.options = options

    def route(self, inquiry: Inquiry) -> Any:
        return ABSTAIN


class Undeclared:
    def __init__(self, options: Any, world: World) -> None:
        pass

    def route(self, inquiry: Inquiry) -> Any:
        return ABSTAIN


@implementer(IRoutingPolicy)
class WithoutMethod:
    def __init__(self, options: Any, world: World) -> None:
        pass


@implementer(IRoutingPolicy)
class WithoutArgument(WithoutMethod):
    def route(self) -> Any:
        return ABSTAIN


class Lax(Plain):
    class Options(BaseModel):
        pass


class NoModel(Plain):
    Options = dict


class OtherConstructor(Plain):
    def __init__(self) -> None:
        pass


class Complains(Plain):
    def __init__(self, options: Any, world: World) -> None:
        raise ValueError("the first day is behind the last")


class NeedsFile(Plain):
    def __init__(self, options: Any, world: World) -> None:
        Path("/there/is/no/such/file").read_text()


class Breaks(Plain):
    def __init__(self, options: Any, world: World) -> None:
        {}["oops"]


@implementer(IPolicyMaker)
class Maker:
    use = "made"
    options = NoOptions

    def make(self, options: Any, world: World) -> Any:
        return Plain(options, world)


maker = Maker()


class ThirdPartyCase(SynchronousTestCase):
    """A folder on `sys.path` in which third parties' modules lie."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.patch(sys, "path", [str(self.folder), *sys.path])
        before = set(sys.modules)
        self.addCleanup(lambda: [sys.modules.pop(name) for name in set(sys.modules) - before])

    def module(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()

    def distribution(self, name: str, **entries: str) -> None:
        """Something that pip has installed."""
        info = self.folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{entry} = {place}" for entry, place in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[relay.policies]", *lines, ""]))
        importlib.invalidate_caches()

    def plugin_folder(self) -> str:
        folder = self.folder / "relay" / "plugins"
        folder.mkdir(parents=True, exist_ok=True)
        self.patch(plugins, "__path__", [*plugins.__path__, str(folder)])
        return "relay/plugins"

    def assert_holiday(self, use: str) -> None:
        model = option_model(use)
        assert model is not None
        self.assertEqual(list(model.model_fields), ["text"])
        verdict = make_policy(use, model(text="gone fishing"), world()).route(inquiry("jon@example.org"))
        self.assertEqual(str(verdict.reply), "450 4.2.1 gone fishing")


class ShippedTests(SynchronousTestCase):
    def test_each_policy_that_is_shipped_can_be_made_and_describes_its_options(self) -> None:
        least: dict[str, dict[str, Any]] = {
            "mailbox": {"domains": ["example.org"], "directory": "/mail"},
            "alias": {"aliases": {"a@example.org": "b@example.org"}},
            "deliver": {"agent": "console"},
            "bcc": {"to": ["archive@example.org"]},
            "dnsbl": {"lists": [{"zone": "bl.example"}]},
            "dnswl": {"lists": [{"zone": "wl.example"}]},
            "headers": {"action": "reject", "fields": [{"name": "Subject"}]},
            "rate-limit": {"rate": "100/1h"},
            "size": {"most": "1 MiB"},
            "srs": {"domain": "srs.example.org", "secret_file": self.secret()},
        }
        for use in SHIPPED:
            model = option_model(use)
            assert model is not None
            for name, option in model.model_fields.items():
                self.assertTrue(option.description, f"{use}.{name}")
            self.assertTrue(model.model_json_schema())
            policy = make_policy(use, least.get(use, {}), world())
            self.assertTrue([phase for phase in PHASES if phase.providedBy(policy)])

    def secret(self) -> str:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        file = folder / "srs.secret"
        file.touch(mode=0o600)
        file.write_text("0123456789abcdefghij")
        return str(file)

    def test_their_models_are_listed_by_name(self) -> None:
        self.assertEqual({use: option_model(use) for use in SHIPPED}.items() - option_models().items(), set())

    def test_a_name_that_nobody_has_is_no_policy(self) -> None:
        self.assertIsNone(option_model("mailboxes"))
        error = self.assertRaises(ValueError, make_policy, "mailboxes", {}, world())
        self.assertEqual(str(error), "there is no policy 'mailboxes'")

    def test_wrong_options_are_said_to_be_wrong(self) -> None:
        error = self.assertRaises(ValueError, make_policy, "reject", {"cod": 550}, world())
        self.assertIn("wrong options for the policy 'reject'", str(error))


class ThreeWaysTests(ThirdPartyCase):
    def test_an_installed_distribution_brings_a_policy_by_its_entry_point(self) -> None:
        self.module("holidays.py", HOLIDAY)
        self.distribution("relay_holiday", holiday="holidays:Holiday", inner="holidays:Nested.Inner")
        self.assert_holiday("holiday")
        self.assert_holiday("inner")
        self.assertIn("holiday", option_models())

    def test_a_class_that_can_be_imported_is_a_policy_by_its_place(self) -> None:
        self.module("shop/holidays.py", HOLIDAY)
        self.assert_holiday("shop.holidays:Holiday")
        self.assert_holiday("shop.holidays:Nested.Inner")

    def test_a_file_in_a_plugin_folder_brings_a_policy(self) -> None:
        self.module(f"{self.plugin_folder()}/site_holidays.py", HOLIDAY)
        self.assert_holiday("beach")
        self.assertIn("beach", option_models())

    def test_a_policy_maker_is_taken_as_it_is(self) -> None:
        use = f"{__name__}:maker"
        self.assertIs(option_model(use), NoOptions)
        self.assertIsInstance(make_policy(use, {}, world()), Plain)

    def test_a_policy_class_without_options_takes_none(self) -> None:
        use = f"{__name__}:Plain"
        self.assertIs(option_model(use), NoOptions)
        self.assertRaises(ValueError, make_policy, use, {"text": "hello"}, world())

    def test_a_plugin_in_one_statement_keeps_the_contract_of_a_maker(self) -> None:
        plugin = PolicyPlugin("plain", Plain)
        self.assertTrue(verifyObject(IPolicyMaker, plugin))
        self.assertTrue(verifyObject(IPlugin, plugin))


class ClashTests(ThirdPartyCase):
    def test_nobody_can_take_the_name_of_a_policy_that_is_shipped(self) -> None:
        self.module("holidays.py", HOLIDAY)
        self.distribution("relay_holiday", mailbox="holidays:Holiday")
        model = option_model("mailbox")
        assert model is not None
        self.assertIn("domains", model.model_fields)

    def test_two_distributions_with_one_name_are_a_mistake_that_names_them(self) -> None:
        self.distribution("relay_one", holiday="one:Holiday")
        self.distribution("relay_two", holiday="two:Holiday")
        error = self.assertRaises(ValueError, option_model, "holiday")
        self.assertEqual(str(error), "two distributions bring a policy 'holiday': relay_one and relay_two")

    def test_two_twisted_plugins_with_one_name_are_a_mistake(self) -> None:
        folder = self.plugin_folder()
        for name in "clash_one", "clash_two":
            self.module(f"{folder}/{name}.py", HOLIDAY)
        self.assertIn("two Twisted plugins", str(self.assertRaises(ValueError, option_model, "beach")))


class NoPolicyTests(ThirdPartyCase):
    def assert_mistake(self, use: str, *words: str) -> None:
        error = self.assertRaises(ValueError, make_policy, use, {}, world())
        for word in words:
            self.assertIn(word, str(error))

    def test_what_cannot_be_imported_is_a_mistake_that_says_why(self) -> None:
        self.module("broken.py", "1 // 0")
        self.module("holidays.py", HOLIDAY)
        for use, word in {
            "no.such.module:Holiday": "ModuleNotFoundError",
            "holidays:Holidays": "AttributeError",
            "broken:Holiday": "ZeroDivisionError",
            "holidays:": "package.module:Name",
            "holi days:Holiday": "package.module:Name",
            "..holidays:Holiday": "package.module:Name",
        }.items():
            self.assert_mistake(use, use, word)
            self.assertRaises(ValueError, option_model, use)

    def test_a_mistake_in_its_code_is_told_with_file_and_line(self) -> None:
        self.module("inner.py", "import json\n\njson.loads('')\n")
        self.module("outer.py", "\nimport inner\n")
        self.module("leaves.py", "import sys\n\nsys.exit(3)\n")
        self.assert_mistake("outer:Holiday", "JSONDecodeError", "inner.py:3 (<module>)")
        self.assert_mistake("leaves:Holiday", "cannot be loaded: SystemExit: 3, at ", "leaves.py:3 (<module>)")
        self.assert_mistake(f"{__name__}:Breaks", f"{__file__}:", "(Breaks.__init__)")
        error = self.assertRaises(ValueError, option_model, "no.such.module:Holiday")
        self.assertTrue(str(error).endswith("No module named 'no'"), str(error))

    def test_what_is_no_policy_is_a_mistake_that_says_what_is_missing(self) -> None:
        self.module("holidays.py", HOLIDAY)
        here = __name__
        for use, words in {
            "holidays:nothing": ("neither a policy class nor an IPolicyMaker",),
            f"{here}:Undeclared": ("@implementer", "IRoutingPolicy"),
            f"{here}:WithoutMethod": ("route",),
            f"{here}:WithoutArgument": ("route", "argument"),
            f"{here}:Lax": ("extra='forbid'",),
            f"{here}:NoModel": ("no pydantic model",),
            f"{here}:OtherConstructor": ("cannot be made", "TypeError"),
            f"{here}:Complains": ("the first day is behind the last",),
            f"{here}:NeedsFile": ("/there/is/no/such/file: No such file or directory",),
            f"{here}:Breaks": ("cannot be made", "KeyError"),
        }.items():
            self.assert_mistake(use, *words)

    def test_a_policy_that_cannot_be_loaded_is_left_out_of_the_list(self) -> None:
        self.distribution("relay_broken", broken="no.such.module:Holiday")
        self.assertNotIn("broken", option_models())


class AssemblyTests(SynchronousTestCase):
    def settings(self, use: str, **more: Any) -> PolicySettings:
        model = option_model(use)
        assert model is not None
        fields = {key: more.pop(key) for key in ("when", "mode", "timeout", "line") if key in more}
        return PolicySettings(name=use, use=use, options=model(**more), **fields)

    def test_a_chain_is_made_of_the_settings_in_their_order(self) -> None:
        chain = make_chain(
            [
                self.settings("mailbox", domains=["example.org"], users=[], directory="/mail", timeout=3),
                self.settings("console", when=When(listener=("local",))),
                self.settings("discard", mode="off"),
                self.settings("reject", text="no"),
            ],
            world(),
            file="relay.toml",
        )
        self.assertEqual([station.name for station in chain.stations], ["mailbox", "console", "reject"])
        self.assertEqual([station.timeout for station in chain.stations], [3, 10, 10])
        decision = start(chain.route(inquiry("jon@example.com", listener="mx")))
        assert isinstance(decision, Refused)
        self.assertEqual(str(decision.reply), "550 5.7.1 <jon@example.com>: no")

    def test_every_policy_that_cannot_be_made_is_reported_with_its_line(self) -> None:
        missing = {"users": {"file": "/no/such/file"}, "domains": ["example.org"], "directory": "/mail"}
        error = self.assertRaises(
            ConfigurationError,
            make_chain,
            [
                self.settings("mailbox", line=4, **missing),
                self.settings("reject", line=9),
                self.settings("mailbox", line=12, **missing),
            ],
            world(),
            file="relay.toml",
        )
        self.assertEqual(
            str(error).splitlines(),
            [
                f"relay.toml:{line}: policy.{at}: /no/such/file: No such file or directory"
                for line, at in ((4, 1), (12, 3))
            ],
        )
