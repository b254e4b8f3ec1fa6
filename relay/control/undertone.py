"""The log of what does not happen: a question that somebody asks raises no alarm."""

from __future__ import annotations

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, globalLogPublisher
from zope.interface import provider


@provider(ILogObserver)
def _lowered(event: LogEvent) -> None:
    """What failed is for whoever asked to see; nobody is to be woken for it."""
    if event["log_level"] > LogLevel.info:
        event["log_level"] = LogLevel.info
    event["log_format"] = "While it was explained what would become of a mail: " + (event["log_format"] or "")
    globalLogPublisher(event)


def undertone(namespace: str) -> Logger:
    """A logger that says all that others do, and none of it louder than `info`."""
    return Logger(namespace=namespace, observer=_lowered)
