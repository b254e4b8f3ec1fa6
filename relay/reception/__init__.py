"""
A session's transactions: questions to policies, drafts to the spool.

`Reception` is one listener's; `Visit` one client's. It is divided by the phase of a transaction, never by
feature: `visit` answers what needs no transaction, `transaction` is what MAIL and RCPT have said so far,
`intake` takes the content and makes the promise.
"""

from relay.reception.reception import Reception
from relay.reception.turnstile import Turnstile
from relay.reception.visit import Visit

__all__ = ["Reception", "Turnstile", "Visit"]
