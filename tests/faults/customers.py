"""Those who send: sessions of many kinds at the same time, each noting what it was told of every copy."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Sequence
from typing import Final

from tests.faults.evidence import Copy, Fate
from tests.faults.letters import LARGEST, Letter, write

#: Whom letters are for.
LOCAL: Final = ("jon@localhost", "ann@localhost", "box@boxes.test")
ONWARD: Final = ("alice@north.test", "bob@north.test", "carol@north.test", "dan@south.test")
#: Accepted here, refused where it goes: the sender is told.
GONE: Final = "gone@north.test"
#: Refused at RCPT, for good and for now.
UNWELCOME: Final = ("elvis@localhost", "anyone@outside.test", "anyone@later.test")
#: The largest message that is accepted; `customers` send larger ones too.
LIMIT: Final = LARGEST + 100_000

_PATIENCE: Final = 20.0


class Ledger:
    """What every customer was told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.fates: dict[Copy, Fate] = {}
        #: What the relay calls the messages that it has acknowledged.
        self.by_queue_id: dict[str, str] = {}
        self._count = 0

    def next_id(self) -> str:
        with self._lock:
            self._count += 1
            return f"m{self._count}"

    def note(self, id: str, fates: dict[str, Fate]) -> None:
        with self._lock:
            self.fates.update({(id, recipient): fate for recipient, fate in fates.items()})

    def note_queue_id(self, queue_id: str, id: str) -> None:
        with self._lock:
            self.by_queue_id[queue_id] = id

    def count(self, fate: Fate) -> int:
        with self._lock:
            return sum(each is fate for each in self.fates.values())


class Gone(Exception):
    """The connection is lost, or the relay has said that it will be."""


class Customer(threading.Thread):
    """Sends so many messages to the relay at this address, over a few connections, or until nobody answers there."""

    def __init__(self, address: tuple[str, int], ledger: Ledger, seed: str, messages: int) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._left = messages

    def run(self) -> None:
        while self._left > 0:
            try:
                with socket.create_connection(self._address, _PATIENCE) as connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._visit(Session(connection))
            except ConnectionRefusedError:
                return
            except (Gone, OSError):
                continue

    def _visit(self, session: Session) -> None:
        session.greet()
        for _ in range(self._chance.choice((1, 1, 3, 10))):
            if self._left <= 0:
                break
            self._left -= 1
            self._send(session)
        session.say("QUIT")

    def _send(self, session: Session) -> None:
        chance = self._chance
        id = self._ledger.next_id()
        recipients = self._recipients()
        fates = dict.fromkeys(recipients, Fate.UNFINISHED)
        queue_id = ""
        try:
            manner = chance.random()
            if manner < 0.03:
                # A CR alone: refused when all of it has come.
                letter = write(id, chance)
                letter = Letter(id, letter.octets.replace(b"Subject", b"Sub\rject"))
            elif manner < 0.05:
                letter = write(id, chance, LIMIT + 50_000)
            else:
                letter = write(id, chance)
            vanish = chance.randrange(len(letter.octets)) if 0.05 <= manner < 0.09 else None
            queue_id = session.transact(letter, recipients, fates, pipelined=chance.random() < 0.6, vanish=vanish)
        finally:
            self._ledger.note(id, fates)
            self._ledger.note_queue_id(queue_id, id)

    def _recipients(self) -> Sequence[str]:
        chance = self._chance
        recipients = chance.sample((*LOCAL, *ONWARD), chance.choice((1, 1, 2, 3, 5)))
        if chance.random() < 0.15:
            recipients.append(chance.choice(UNWELCOME))
        if chance.random() < 0.04:
            recipients.append(GONE)
        chance.shuffle(recipients)
        return recipients


class Session:
    """The client's side of a connection, with a deadline for each step."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rb")
        #: Of the last reply.
        self.text = ""

    def greet(self) -> None:
        if self.reply() != 220:
            raise Gone
        self.say("EHLO customer.test")

    def transact(
        self, letter: Letter, recipients: Sequence[str], fates: dict[str, Fate], *, pipelined: bool, vanish: int | None
    ) -> str:
        """One message; its queue id. `fates` is kept true at each step, since any of them may be the last."""
        commands = ["MAIL FROM:<sender@localhost> BODY=8BITMIME", *(f"RCPT TO:<{each}>" for each in recipients), "DATA"]
        if pipelined:
            self.send("".join(f"{command}\r\n" for command in commands).encode())
        codes = []
        for command in commands:
            codes.append(self.reply() if pipelined else self.say(command))
            if not pipelined and codes[0] != 250:
                break
        accepted = [who for who, code in zip(recipients, codes[1:], strict=False) if code == 250 and codes[0] == 250]
        for who in recipients:
            if who not in accepted:
                fates[who] = Fate.REFUSED
        if not accepted or codes[-1] != 354:
            fates.update(dict.fromkeys(recipients, Fate.REFUSED))
            self.say("RSET")
            return ""
        wire = letter.octets.replace(b"\r\n.", b"\r\n..")
        if vanish is not None:
            self.send(wire[:vanish])
            raise Gone
        self.send(wire)
        fates.update(dict.fromkeys(accepted, Fate.UNANSWERED))
        self.send(b".\r\n")
        code = self.reply()
        fates.update(dict.fromkeys(accepted, Fate.ACKNOWLEDGED if code == 250 else Fate.REFUSED))
        return self.text.rpartition(" ")[2]

    def say(self, command: str) -> int:
        self.send(f"{command}\r\n".encode())
        return self.reply()

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def reply(self) -> int:
        """The code of the next reply; `Gone` if there is none."""
        while True:
            line = self._file.readline()
            if not line.endswith(b"\r\n"):
                raise Gone
            if line[3:4] != b"-":
                self.text = line[4:].decode().strip()
                return int(line[:3])
