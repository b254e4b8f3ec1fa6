"""`relayctl`: what an operator asks the relay, and its configuration."""

from __future__ import annotations

import click

from relay import __version__
from relay.cli.check import check
from relay.cli.passwd import passwd
from relay.cli.status import status


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relayctl", message="%(prog)s %(version)s")
def main() -> None:
    """Ask a running relay, or check a configuration before it runs."""


main.add_command(check)
main.add_command(passwd)
main.add_command(status)
