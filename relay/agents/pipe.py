"""
The agent that hands mail to a program: on its standard input, its envelope in its arguments.

Nothing of the mail is ever read by a shell, none of it chooses the program, and none of it can become an option of it
or lead a path elsewhere.
"""

from __future__ import annotations

import math
import os
import pwd
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from twisted.internet.interfaces import IReactorProcess
from twisted.logger import Logger
from zope.interface import implementer

from relay.agents import launch
from relay.agents.child import Child, Ended, KillGroup
from relay.agents.copies import Copy
from relay.agents.exits import OTHER, Meaning, meaning
from relay.agents.parcels import Fate, Places, carry_parcels, octets, shown
from relay.agents.pipe_options import OF_A_RECIPIENT, PLACEHOLDER, PipeParameters
from relay.config.units import spell_duration
from relay.interfaces import Consignment, IAgent, IAgentMaker, IClock, Report, World
from relay.mail.outcome import Carried, Fact, Unwritten

#: Recipients of one run: with these, arguments are far from what the kernel takes (128 KiB each, 2 MiB in all).
TOGETHER: Final = 100

_ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
#: RFC 3463 section 3.2, X.1.0: of an address, and of which of the two is not said.
_UNFIT: Final = (
    "the program that takes mail for this address cannot be given an address such as this one or the sender's"
)
_LAUNCH: Final = str(Path(launch.__file__).resolve())

log = Logger()


class Undeliverable(Exception):
    """The program cannot be started for this mail. `permanent`: not ever."""

    def __init__(self, text: str, *, permanent: bool = False) -> None:
        super().__init__(text)
        self.permanent = permanent


@implementer(IAgent)
class PipeAgent:
    """
    Carries `Deliver("pipe", {"command": '["/usr/bin/program", "{recipient}"]', ...})`.

    What the program's end means stands in `relay.agents.exits`; one that was ended by a signal, or by us at the
    deadline, is tried again. Its promise is its exit status 0, also where it has not read all of the message.
    """

    Options = PipeParameters

    def __init__(
        self,
        reactor: IReactorProcess,
        clock: IClock,
        *,
        euid: Callable[[], int] = os.geteuid,
        killpg: KillGroup = os.killpg,
    ) -> None:
        self._reactor = reactor
        self._killpg = killpg
        self._clock = clock
        self._euid = euid
        self._places = Places()

    def carry(self, consignment: Consignment) -> Awaitable[Sequence[Report]]:
        return carry_parcels("pipe", consignment, PipeParameters, self._send, TOGETHER)

    async def _send(self, options: PipeParameters, copy: Copy) -> Fact:
        program = options.command[0]
        try:
            words = [*self._launcher(options), program, *arguments(options.command, copy)]
        except Undeliverable as reason:
            return Unwritten(
                program,
                str(reason),
                permanent=reason.permanent,
                status="5.1.0" if reason.permanent else "",
                because=_UNFIT if reason.permanent else OTHER.because,
            )

        async def run() -> Fact:
            return self._fact(options, copy, await self._run(options, copy, words))

        return await self._places.within(options.command, options.concurrency, run)

    def _launcher(self, options: PipeParameters) -> list[str]:
        settings = {
            "relay": os.getpid(),
            "cpu": options.cpu and math.ceil(options.cpu),
            "memory": options.memory,
            **_identity(options.user, self._euid()),
        }
        said = " ".join(f"{key}={value}" for key, value in settings.items() if value is not None)
        return [sys.executable, "-I", "-S", _LAUNCH, said, str(options.directory or "/")]

    async def _run(self, options: PipeParameters, copy: Copy, words: Sequence[str]) -> Ended:
        child = Child(
            self._clock,
            octets(copy, top=options.top, lf=options.newlines == "lf"),
            timeout=options.timeout,
            output=options.output,
            killpg=self._killpg,
        )
        self._reactor.spawnProcess(child, words[0], words, {**_ENVIRONMENT, **options.environment}, None)
        return await child.ended

    def _fact(self, options: PipeParameters, copy: Copy, ended: Ended) -> Fact:
        program, said = options.command[0], shown(ended.output)
        if said:
            whole = shown(ended.output, most=3 * options.output)  # no line is cut that was kept
            log.info("{program} said of {id}: {said}", program=program, id=copy.entry.id, said=whole)
        meant, text = self._judged(options, ended)
        if meant.fate is Fate.DELIVERED:
            return Carried(onward=False, by=program)
        text, failed = f"{text}: {said}" if said else text, meant.fate is Fate.FAILED
        return Unwritten(program, text, permanent=failed, status=meant.status, because=meant.because)

    def _judged(self, options: PipeParameters, ended: Ended) -> tuple[Meaning, str]:
        if ended.overdue and ended.status != os.EX_OK:
            return OTHER, f"it took longer than {spell_duration(options.timeout)}"
        if ended.status is None:
            name = signal.Signals(ended.signal).name if ended.signal else "something"
            return OTHER, f"it was ended by {name}"
        meant = meaning(ended.status)
        return meant, f"exit status {ended.status}, {meant.text}"


def _identity(name: str | None, euid: int) -> dict[str, Any]:
    """Who is to run the program, for `launch`. Raises `Undeliverable`."""
    if name is None:
        if euid == 0:
            raise Undeliverable("the relay is root, and runs no program as root: its parameters should say 'user'")
        return {}
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise Undeliverable(f"there is no user '{name}'") from None
    if user.pw_uid == 0:
        raise Undeliverable("no program is run as root")
    if euid != 0:
        if user.pw_uid == euid:
            return {}
        raise Undeliverable(f"the relay is not root, and cannot become '{name}'")
    groups = ",".join(map(str, os.getgrouplist(name, user.pw_gid)))
    return {"uid": user.pw_uid, "gid": user.pw_gid, "groups": groups}


def arguments(command: Sequence[str], copy: Copy) -> list[str]:
    """
    The arguments of the program for this copy.

    Raises `Undeliverable` where one would become an option, or a path that leads out of where it seems to be.
    """
    options_end = command.index("--") if "--" in command else len(command)
    return [
        argument
        for at, template in enumerate(command)
        if at > 0
        for argument in _filled(template, copy, may_be_option=at < options_end)
    ]


def _filled(template: str, copy: Copy, *, may_be_option: bool) -> Iterator[str]:
    entry = copy.entry
    of_the_message = {"sender": str(entry.envelope.reverse_path or ""), "id": entry.id}
    named = set(PLACEHOLDER.findall(template))
    if not named & OF_A_RECIPIENT:
        yield _replaced(template, of_the_message, may_be_option)
        return
    for recipient in copy.recipients:
        address = recipient.address
        yield _replaced(
            template,
            {
                **of_the_message,
                "recipient": str(address),
                "local": address.local,
                "domain": address.domain,
                "original": str(recipient.original),
            },
            may_be_option,
        )


def _replaced(template: str, values: dict[str, str], may_be_option: bool) -> str:
    def value(match: re.Match[str]) -> str:
        said = values[match[1]]
        if "/" in template[: match.start()] and ("/" in said or said in ("", ".", "..")):
            raise Undeliverable(f"'{said}' would lead elsewhere in the path '{template}'", permanent=True)
        return said

    # Once, so that what an address says is never a placeholder.
    argument = PLACEHOLDER.sub(value, template)
    if may_be_option and argument.startswith("-") and not template.startswith("-"):
        raise Undeliverable(f"'{argument}' would be an option of the program", permanent=True)
    return argument


@frozen
class _Maker:
    """
    Makes the agent where it is first used.

    The reactor is then the one that runs: whoever has another gives the relay an agent of its own.
    """

    use: str = "pipe"
    options: type[PipeParameters] = PipeParameters

    def make(self, world: World) -> PipeAgent:
        from twisted.internet import reactor

        return PipeAgent(reactor, world.clock)


PIPE: Final = implementer(IAgentMaker)(_Maker)()
