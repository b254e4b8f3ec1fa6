"""
The fixture `relay_server`, for everyone who has pytest and the relay installed: nothing has to be imported.

    def test_a_reminder_is_sent(relay_server):
        remind("bob@example.net", host=relay_server.host, port=relay_server.port)
        assert relay_server.messages[0].recipients == ("bob@example.net",)

    @pytest.mark.relay(policies=[{"use": "reject", "text": "no"}])
    def test_a_refusal_is_told(relay_server): ...

pytest loads this in each of its runs, and most have nothing to do with mail: the relay is imported when it is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from relay.testing.server import RelayServer


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "relay(configuration, *, policies, names, http, tables, users): what the fixture relay_server is like",
    )


@pytest.fixture
def make_relay_server() -> Iterator[Callable[..., RelayServer]]:
    """
    `make_relay_server(...)`: a relay that runs until the test ends, with the arguments of
    `relay.testing.server.RelayServer`; for tests that need several, or know only later what they are like.
    """
    from relay.testing.server import RelayServer

    with ExitStack() as running:
        yield lambda *arguments, **more: running.enter_context(RelayServer(*arguments, **more))


@pytest.fixture
def relay_server(request: pytest.FixtureRequest, make_relay_server: Callable[..., RelayServer]) -> RelayServer:
    """
    A relay on a port of this machine, which accepts everything and sends nothing: `.host`, `.port`, `.messages`.

    `@pytest.mark.relay(...)` says otherwise, with the arguments of `relay.testing.server.RelayServer`; what stands at a
    test counts before what stands at its class or module.
    """
    mark = request.node.get_closest_marker("relay")
    arguments: tuple[Any, ...] = () if mark is None else mark.args
    return make_relay_server(*arguments, **({} if mark is None else mark.kwargs))
