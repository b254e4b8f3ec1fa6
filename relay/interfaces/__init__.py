"""
The contracts. What a docstring here says is the specification; an implementation's own says only what
is particular to it.

Waiting: a method that says "may wait" returns either its value or an awaitable of it; callers go through
`relay.net.waiting.start`, so that an answer that is there at once costs no `Deferred`. Awaitables are
Twisted's: coroutines and `Deferred`s, never asyncio's.

Whose fault: the client's and the peer's faults are values (verdicts, facts). An exception means that the code
which raises it is at fault; whoever called logs it and says 451, or `Delayed`.
"""

from __future__ import annotations

from relay.interfaces.delivery import (
    Consignment,
    IAgent,
    IAgentMaker,
    Interrupted,
    IPassing,
    IPlace,
    ITransmitter,
    ITraveller,
    IWillingAgent,
    IWillingTransmitter,
    Report,
)
from relay.interfaces.logs import HistoryUnavailable, IHistory, IMailLog, ITakesRows, ITakesTurns
from relay.interfaces.policies import (
    IAttemptPolicy,
    IConnectionPolicy,
    IContentPolicy,
    IContentReader,
    IObserver,
    IPolicyMaker,
    IRoutingPolicy,
    ISenderPolicy,
    IStreamPolicy,
)
from relay.interfaces.session import Deciding, IAttemptScreening, IChain, IDispatch, IRoutes, IScreening, IVisit
from relay.interfaces.spool import (
    ActUnknown,
    Claim,
    ClaimLost,
    Enrol,
    GiveBack,
    IContent,
    IDraft,
    ISpool,
    OutcomeUnknown,
    Postpone,
    Renew,
    Settle,
    SpoolError,
    Step,
)
from relay.interfaces.users import CredentialsUnavailable, ICredentials
from relay.interfaces.world import HttpAnswer, HttpTrouble, IClock, IHttp, IResolver, IStore, ITable, TroubleKind, World

__all__ = [
    "ActUnknown",
    "Claim",
    "ClaimLost",
    "Consignment",
    "CredentialsUnavailable",
    "Deciding",
    "Enrol",
    "GiveBack",
    "HistoryUnavailable",
    "HttpAnswer",
    "HttpTrouble",
    "IAgent",
    "IAgentMaker",
    "IAttemptPolicy",
    "IAttemptScreening",
    "IChain",
    "IClock",
    "IConnectionPolicy",
    "IContent",
    "IContentPolicy",
    "IContentReader",
    "ICredentials",
    "IDispatch",
    "IDraft",
    "IHistory",
    "IHttp",
    "IMailLog",
    "IObserver",
    "IPassing",
    "IPlace",
    "IPolicyMaker",
    "IResolver",
    "IRoutes",
    "IRoutingPolicy",
    "IScreening",
    "ISenderPolicy",
    "ISpool",
    "IStore",
    "IStreamPolicy",
    "ITable",
    "ITakesRows",
    "ITakesTurns",
    "ITransmitter",
    "ITraveller",
    "IVisit",
    "IWillingAgent",
    "IWillingTransmitter",
    "Interrupted",
    "OutcomeUnknown",
    "Postpone",
    "Renew",
    "Report",
    "Settle",
    "SpoolError",
    "Step",
    "TroubleKind",
    "World",
]
