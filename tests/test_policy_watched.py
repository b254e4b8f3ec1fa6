"""What is noted of what a policy looks at: enough to find the reason, and no secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from relay.config.tables import TableSettings
from relay.interfaces import HttpTrouble, IHttp, IResolver, IStore, ITable
from relay.net.waiting import start
from relay.policy.looking import LOOKS, Look
from relay.policy.tables import Tables
from relay.policy.watched import watched
from relay.testing.policy import FakeWorld

#: Longer than what is shown of a value.
LONG = "0123456789" * 5


class WatchedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = FakeWorld(
            http=lambda asked: b"yes" if asked.method == "POST" else HttpTrouble("too late", "hook.test"),
            tables={"routes": {"ann@here.test": "mail.here.test", "bob@here.test": LONG}},
        )
        self.watched = watched(self.world.world)

    def looks(self, do: Callable[[], Any]) -> list[tuple[str, str, str]]:
        """What is noted while this is done."""
        noted: list[Look] = []
        token = LOOKS.set(noted)
        try:
            start(do())
        finally:
            LOOKS.reset(token)
        return [(look.where, look.what, look.found) for look in noted]

    def failing(self, do: Callable[[], Any], *kinds: type[Exception]) -> list[tuple[str, str, str]]:
        def attempt() -> None:
            with self.assertRaises(kinds):
                start(do())

        return self.looks(attempt)

    def test_it_is_the_same_world(self) -> None:
        world = self.watched
        for contract, provider in (
            (IStore, world.store),
            (IStore, world.store.scoped("part")),
            (IHttp, world.http),
            (IResolver, world.resolver),
            (ITable, world.table("routes")),
        ):
            self.assertTrue(verifyObject(contract, provider))

    def test_of_a_url_its_host_is_noted_and_nothing_else(self) -> None:
        request = self.watched.http.request
        self.assertEqual(
            self.looks(lambda: request("POST", "https://hook.test/services/T0/SECRET?key=SECRET#SECRET")),
            [("http", "POST https://hook.test", "200, 3 octets")],
        )
        for url, where in [
            ("https://ann:SECRET@hook.test:8443/SECRET", "https://hook.test:8443"),
            ("http://[2001:db8::1]:80/SECRET", "http://[2001:db8::1]:80"),
            ("https://hook.test:SECRET/", "what is no URL"),
            ("https://[SECRET/", "what is no URL"),
            ("SECRET", "what is no URL"),
        ]:
            noted = self.failing(lambda url=url: request("GET", url), HttpTrouble)  # type: ignore[misc]
            self.assertEqual(noted, [("http", f"GET {where}", "too late: hook.test")])

    def test_of_a_value_its_beginning_is_noted(self) -> None:
        get, store = self.watched.table("routes").get, self.watched.store
        cut = LONG[:40] + "..."
        for do, noted in [
            (lambda: get("ann@here.test"), ("table", "routes: ann@here.test", "mail.here.test")),
            (lambda: get("bob@here.test"), ("table", "routes: bob@here.test", cut)),
            (lambda: get("eve@here.test"), ("table", "routes: eve@here.test", "nothing")),
            (lambda: store.put("key", LONG, 60), ("store", "key", f"becomes {cut}")),
            (lambda: store.get("key"), ("store", "key", cut)),
            (lambda: store.get("other"), ("store", "other", "nothing")),
        ]:
            self.assertEqual(self.looks(do), [noted])
        self.assertEqual(store.get("key"), LONG)

    def test_a_moment_is_noted_as_people_read_it(self) -> None:
        store = self.watched.store
        for value, noted in (("1795435200.25", "2026-11-23T12:00:00Z"), ("179543520.5", "179543520.5"), ("3", "3")):
            self.assertEqual(self.looks(lambda: store.put("t", value, 60)), [("store", "t", f"becomes {noted}")])  # noqa: B023
            self.assertEqual(self.looks(lambda: store.get("t")), [("store", "t", noted)])
            self.assertEqual(store.get("t"), value)

    def test_a_key_without_a_value_is_found(self) -> None:
        get = watched(FakeWorld(tables={"all": {"ann": ""}}).world).table("all").get
        self.assertEqual(self.looks(lambda: get("ann")), [("table", "all: ann", "found")])

    def test_of_a_table_that_is_secret_no_value_is_noted(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        file = Path(folder.name, "tokens")
        file.write_text("ann SECRET\n")
        settings = TableSettings(name="tokens", file=file, secret=True)
        world = self.world.world
        table = watched(evolve(world, table=Tables((settings,), world.clock))).table("tokens")
        self.assertEqual(self.looks(lambda: table.get("ann")), [("table", "tokens: ann", "found")])
        self.assertEqual(self.looks(lambda: table.get("bob")), [("table", "tokens: bob", "nothing")])
        self.assertEqual(table.get("ann"), "SECRET")

        def check(key: str, value: str) -> None:
            if "WRONG" in value:
                raise ValueError(f"{value} is wrong")

        checked = table.checked(check)
        file.write_text("ann SECRET WRONG\n")
        self.world.clock.advance(2)
        noted = self.failing(lambda: checked.get("ann"), ValueError)
        self.assertEqual(noted, [("table", "tokens: ann", "cannot be read")])
