"""
One worker: a whole relay with a share of its own, in a process that a parent has started (`python -m relay.worker`).

Nobody starts it by hand. `relay.workers.among` has what it does otherwise than a relay that is alone.
"""

from __future__ import annotations

import os
import signal
import sys

from relay.net.memory import keep_freed
from relay.net.reactor import install_monotonic_reactor


def main() -> None:
    """Begin, serve, end."""
    # Whoever types Ctrl-C means the parent, which will say what is to be done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Who has no log open yet will open the new one.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    keep_freed()
    reactor = install_monotonic_reactor()  # before anything below can import the stock one

    from relay.config.errors import ConfigurationError
    from relay.workers.among import begin

    try:
        begin(reactor)
    except ConfigurationError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        raise SystemExit(os.EX_CONFIG) from None
    reactor.run()


if __name__ == "__main__":
    main()
