"""The command `relay`: the relay in the foreground, as `twistd -n --pidfile= --no_save relay -c FILE`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from twisted.application.service import ServiceMaker
from twisted.scripts import twistd

from relay import __version__


class _Options(twistd.ServerOptions):  # type: ignore[name-defined,misc]  # it depends on the platform
    """
    twistd's options with our service as the only command.

    twistd would look for plugins, and that imports all of Twisted's and writes a cache of them, which
    the user that a relay runs as may not even be allowed to. We know what we want to start.
    """

    @property
    def subCommands(self) -> Iterator[tuple[str, None, Any, str]]:
        maker = ServiceMaker("relay", "relay.tap", "", "relay")
        self.loadedPlugins = {maker.tapname: maker}
        yield maker.tapname, None, lambda: maker.options(), maker.description


@click.command(name="relay", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "--config", metavar="FILE", required=True, help="The configuration, a TOML file.")
@click.version_option(__version__, prog_name="relay", message="%(prog)s %(version)s")
def main(config: str) -> None:
    """
    Run the mail relay that FILE describes, in the foreground, until SIGTERM or SIGINT.

    The log goes to standard output. Exit status 78 means that the configuration is wrong.
    """
    options = _Options()
    options.parseOptions(["--nodaemon", "--pidfile=", "--no_save", "relay", f"--config={config}"])
    twistd.runApp(options)
