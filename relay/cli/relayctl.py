"""`relayctl`: what an operator asks the relay, and its configuration."""

from __future__ import annotations

import click

from relay import __version__
from relay.cli.check import check
from relay.cli.dest import dest
from relay.cli.explain import explain
from relay.cli.missing import Whole
from relay.cli.new_policy import new_policy
from relay.cli.passwd import passwd
from relay.cli.queue import queue
from relay.cli.reload import reload
from relay.cli.status import status
from relay.cli.suppress import suppress
from relay.cli.top import top
from relay.cli.trace import trace
from relay.cli.why import why


@click.group(cls=Whole, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relayctl", message="%(prog)s %(version)s")
def main() -> None:
    """
    Ask a running relay, steer its queue, or check a configuration before it runs.

    Exit status: 0 done; 1 nothing was found, or the relay said no; 2 not understood; 69 no relay answers; 75 some of
    those who were meant are being carried at this moment, or a worker has not answered, so say it again; 78 the
    configuration is wrong.
    """


for command in (status, queue, dest, suppress, trace, why, explain, top, check, reload, new_policy, passwd):
    main.add_command(command)
