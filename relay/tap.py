"""
What `twistd relay` runs: its options, and the service that the configuration file describes.

`twistd --help` imports this module to list the options of each plugin, so everything that is heavy,
and everything that would choose a reactor, is imported when the service is made and not before.
"""

from __future__ import annotations

import os
import sys
from typing import ClassVar

from twisted.application.service import IService
from twisted.python import usage


class Options(usage.Options):
    """The options of `twistd relay`."""

    synopsis = "Usage: twistd [options] relay --config FILE"
    longdesc = "Runs the mail relay that FILE describes."
    optParameters: ClassVar = [["config", "c", None, "The configuration, a TOML file."]]

    def postOptions(self) -> None:
        """There is no default: a relay that guessed what it may do with mail would be the wrong one."""
        if not self["config"]:
            raise usage.UsageError("which configuration? Say relay --config FILE")


def makeService(options: Options) -> IService:
    """
    The service of the file that `options` names, on a reactor that follows the monotonic clock.

    If the configuration is wrong, each problem is a line on standard error and the process ends with
    status 78 (EX_CONFIG of sysexits.h). twistd calls this before it listens, detaches from the
    terminal or starts its log, so the person who typed the command sees the lines, and only them.
    """
    from relay.net.memory import keep_freed
    from relay.net.reactor import install_monotonic_reactor

    keep_freed()
    reactor = install_monotonic_reactor()  # before anything below can import the stock one

    from relay.config.errors import ConfigurationError
    from relay.parent import from_file

    try:
        return from_file(options["config"], reactor)
    except ConfigurationError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        raise SystemExit(os.EX_CONFIG) from None
