"""What an operator asks of a relay that is several processes: asked of each, and told as one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.assembly import answers_for_control
from relay.control.api import Asked, Desk, Refused
from relay.control.reloading import InForce, Reloaded
from relay.control.together import Parent, Silent, Worker, desk_of_workers
from relay.control.workers.destinations import as_one
from relay.control.workers.owed import AGAIN
from relay.control.workers.pages import merged, part_of
from relay.history.memory import MemoryHistory
from relay.testing.policy import NOON
from relay.testing.world import MailWorld
from tests.test_control_queue import SICK, Socket


class Process:
    """A worker that runs here: a whole relay in memory, and what it was asked."""

    def __init__(self, index: int, configuration: str = SICK, *, retired: bool = False) -> None:
        self.world = MailWorld(configuration, history=MemoryHistory(lambda: NOON + self.world.clock.seconds()))
        for domain in ("a", "b", "c"):
            self.world.names[f"{domain}.example"] = {"MX": [(10, f"mx.{domain}.example")]}
            self.world.names[f"mx.{domain}.example"] = {"A": ["192.0.2.9"]}
        self.desk = answers_for_control(
            self.world.relay, 100 + index, {"127.0.0.1:2525": "127.0.0.1:2525"}, self.world.history
        )
        self.worker = Worker(index, 100 + index, self.ask, retired)
        #: Why it says nothing.
        self.trouble: Refused | None = None
        self.asked: list[str] = []

    async def ask(
        self, path: str, words: Mapping[str, Any], act: bool, user: str | None = None, aside: bool = False
    ) -> Mapping[str, Any]:
        self.asked.append(path)
        if self.trouble is not None:
            raise self.trouble
        said = json.loads(json.dumps(words)) if act else {name: str(value) for name, value in words.items()}
        answer = (self.desk.acts if act else self.desk.questions)[path]
        heard: Mapping[str, Any] = json.loads(json.dumps(await answer(Asked(said, user, aside))))
        return heard

    def events(self, what: str) -> list[dict[str, Any]]:
        return [fields for event, fields in self.world.log.events if event == what]


def telling(value: Mapping[str, Any]) -> Any:
    """An answer that is always the same."""

    async def answer(_asked: Asked) -> Mapping[str, Any]:
        return value

    return answer


class TogetherCase(SynchronousTestCase):
    """Three workers of one relay, the last of them retired, with mail for destinations of which nobody answers."""

    configuration = SICK

    def setUp(self) -> None:
        self.processes = [Process(n, self.configuration, retired=n == 2) for n in range(3)]
        clock = self.processes[0].world.time
        self.reloads: list[str] = []
        parent = Parent(clock, "mx.test", 99, clock.seconds(), lambda: InForce("relay.toml", "abcdef", 0.0))
        self.desk = desk_of_workers(lambda: [each.worker for each in self.processes], parent, self.reload)
        self.socket = Socket(self.desk)

    async def reload(self) -> Reloaded:
        self.reloads.append("reload")
        return Reloaded(True, "123456")

    def post_mail(self, at: int, *to: str, sender: str = "jon@example.net") -> str:
        id = self.processes[at].world.send(sender, to, b"Message-ID: <1@x>\r\nSubject: hello\r\n\r\nHello.\r\n")
        self.pass_time(60)
        return id

    def pass_time(self, seconds: float) -> None:
        for process in self.processes:
            process.world.pass_time(seconds)

    def get(self, path: str, **words: str) -> Any:
        status, said = self.socket.get(path, **words)
        self.assertEqual(status, 200, said)
        return said

    def post(self, path: str, **words: Any) -> Any:
        status, said = self.socket.post(path, **words)
        self.assertEqual(status, 200, said)
        return said

    def refused(self, status_and_said: tuple[int, Any], status: int, words: str) -> None:
        self.assertEqual(status_and_said[0], status, status_and_said)
        self.assertIn(words, status_and_said[1]["error"])

    def silence(self, index: int, sentence: str = "it does not answer") -> None:
        self.processes[index].trouble = Silent(sentence)

    def speak(self) -> None:
        for process in self.processes:
            process.trouble = None


class PathTests(TogetherCase):
    def test_whoever_asks_need_not_know_how_many_workers_there_are(self) -> None:
        alone = self.processes[0].desk
        self.assertEqual(set(self.desk.questions), set(alone.questions))
        self.assertEqual(set(self.desk.acts), set(alone.acts))

    def test_what_is_not_understood_is_refused_as_by_one(self) -> None:
        self.refused(self.socket.get("queue", soup="1"), 400, "'soup' is not understood here")
        self.refused(self.socket.get("queue", most="0"), 400, "'most' is a number")
        self.refused(self.socket.post("queue/hold"), 400, "who is meant?")
        self.refused(self.socket.get("queue/count", by="soup"), 400, "'by' is one of")
        self.refused(self.socket.get("queue/count", after="soup"), 400, "what the page before has said")
        self.refused(self.socket.get("trace"), 400, "what is to be traced?")

    def test_before_there_is_any_worker_nothing_is_said(self) -> None:
        self.processes.clear()
        for path in ("queue", "queue/count", "dest", "suppress"):
            self.refused(self.socket.get(path), 503, "there is no worker at this moment")


class QueueTests(TogetherCase):
    def test_the_queue_is_listed_by_id_whichever_shard_a_message_is_in(self) -> None:
        ids = [self.post_mail(at, "x@a.example") for at in (2, 0, 1, 1, 0, 2, 0)]
        self.assertEqual([entry["id"] for entry in self.get("queue")["entries"]], ids)
        self.assertNotIn("silent", self.get("queue"))

    def test_pages_come_one_after_the_other_and_no_message_is_torn(self) -> None:
        to = [f"u{n}@{d}.example" for n in range(3) for d in "ab"]
        ids = [self.post_mail(at, *to) for at in (0, 0, 0, 1, 2, 0)]
        for most in ("1", "5", "6", "7", "24", "100"):
            listed: list[str] = []
            after = ""
            while True:
                said = self.get("queue", most=most, after=after)
                for entry in said["entries"]:
                    self.assertEqual(len(entry["recipients"]), 6)
                    listed.append(entry["id"])
                after = said["next"]
                if not after:
                    break
            self.assertEqual(listed, ids, most)

    def test_a_message_is_shown_by_the_worker_that_has_it(self) -> None:
        id = self.post_mail(1, "x@a.example")
        self.assertEqual((self.get("queue/show", id=id)["id"], self.get("queue/show", id=id)["worker"]), (id, 1))
        self.refused(self.socket.get("queue/show", id="NOBODY"), 404, "there is no message NOBODY")

    def test_nobody_says_that_there_is_no_such_message_while_somebody_is_silent(self) -> None:
        id = self.post_mail(1, "x@a.example")
        self.silence(1)
        self.refused(self.socket.get("queue/show", id=id), 503, "but worker 1: it does not answer")

    def test_counts_are_added_up_page_by_page(self) -> None:
        for at, domain in ((0, "a"), (0, "b"), (1, "a"), (2, "a"), (2, "c")):
            self.post_mail(at, f"x@{domain}.example")
        groups = self.get("queue/count")["groups"]
        self.assertEqual(
            groups, {"a.example": {"deferred": 3}, "b.example": {"deferred": 1}, "c.example": {"deferred": 1}}
        )

    def test_who_has_come_to_the_end_is_not_asked_again(self) -> None:
        self.post_mail(0, "x@a.example")
        [entry] = self.get("queue")["entries"]
        place = f"{entry['id']}:{entry['recipients'][0]['id']}"
        for process in self.processes:
            process.asked.clear()
        self.assertEqual(self.get("queue/count", after=f"0={place}")["groups"], {})
        self.assertEqual([process.asked for process in self.processes], [["queue/count"], [], []])

    def test_what_is_done_is_done_in_every_shard(self) -> None:
        ids = [self.post_mail(at, "x@a.example", "y@b.example") for at in (0, 1, 2)]
        said = self.post("queue/hold", to="@a.example")
        self.assertEqual(said, {"done": 3, "busy": 0, "unmoved": 0, "next": ""})
        self.assertEqual(self.get("queue/count", state="held")["groups"], {"a.example": {"held": 3}})
        self.assertEqual([process.events("held")[0]["id"] for process in self.processes], ids)
        self.assertEqual(self.post("queue/delete", id=[ids[1]])["done"], 2)
        self.assertEqual(self.post("queue/reroute", dest="b.example", via="[192.0.2.1]:26")["done"], 2)
        self.assertEqual(self.post("queue/release", all=True)["done"], 2)

    def test_a_list_without_a_worker_says_so(self) -> None:
        ids = [self.post_mail(at, "x@a.example") for at in (0, 1)]
        self.silence(1, "it is being started")
        said = self.get("queue")
        self.assertEqual([entry["id"] for entry in said["entries"]], ids[:1])
        self.assertEqual((said["silent"], said["unheard"]), ([1], ["worker 1: it is being started"]))

    def test_an_act_says_where_it_has_not_happened(self) -> None:
        for at in (0, 1):
            self.post_mail(at, "x@a.example")
        self.silence(1)
        said = self.post("queue/hold", all=True)
        self.assertEqual((said["done"], said["silent"]), (1, [1]))
        self.speak()
        self.assertEqual(self.post("queue/hold", all=True)["done"], 1)

    def test_an_act_that_nobody_hears_is_refused(self) -> None:
        for at in range(3):
            self.silence(at)
        self.refused(self.socket.post("queue/hold", all=True), 503, "worker 0: it does not answer; worker 1:")

    def test_what_was_done_by_the_first_pages_is_told_where_the_last_one_fails(self) -> None:
        self.silence(1)
        said = self.post("queue/hold", all=True, after="1=A:A.0")
        self.assertEqual((said["done"], said["next"], said["silent"]), (0, "", [1]))


@st.composite
def shards(draw: st.DrawFn) -> list[list[tuple[str, int]]]:
    """Messages by shard, each with so many recipients."""
    numbers = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=30))
    found: list[list[tuple[str, int]]] = [[] for _ in range(4)]
    for at, (shard, recipients) in enumerate(numbers):
        found[shard].append((f"ID{at:04}", recipients))
    return found


class PagingTests(SynchronousTestCase):
    @given(shards(), st.integers(1, 40), st.randoms(use_true_random=False))
    def test_however_messages_are_spread_each_is_listed_once_and_in_order(
        self, spread: list[list[tuple[str, int]]], most: int, random: Any
    ) -> None:
        listed: list[tuple[str, int]] = []
        after = ""
        for _ in range(1000):
            answers = [self.answer(shard, part_of(most, 4), after, random) for shard in spread]
            page, after = merged(answers, most)
            self.assertLess(sum(len(entry["recipients"]) for entry in page[:-1]), most)
            listed += [(entry["id"], len(entry["recipients"])) for entry in page]
            if not after:
                break
        self.assertEqual(listed, sorted(each for shard in spread for each in shard))

    def answer(self, shard: Sequence[tuple[str, int]], most: int, after: str, random: Any) -> Mapping[str, Any]:
        """As a worker answers, which may be out of time at any place, also where nobody was meant."""
        entry, _, _ = after.partition(":")
        rest = [each for each in shard if each[0] > entry]
        some = rest[: random.randint(1, max(1, most))]
        entries = [
            {"id": id, "recipients": [{"id": f"{id}.{number}"} for number in range(count)]} for id, count in some
        ]
        end = f"{some[-1][0]}:{some[-1][0]}.{some[-1][1] - 1}" if some and len(some) < len(rest) else ""
        return {"entries": entries, "next": end}


class DestinationTests(TogetherCase):
    def test_a_destination_is_one_row(self) -> None:
        for at in (0, 1):
            self.post_mail(at, "x@a.example")
        self.post_mail(2, "x@b.example")
        rows = self.get("dest")["destinations"]
        self.assertEqual([row["name"] for row in rows], ["a.example", "b.example"])
        each = [p.world.relay.dispatcher.destinations() for p in self.processes[:2]]
        self.assertEqual(rows[0]["limit"], sum(known.limit for conditions in each for known in conditions))
        self.assertEqual(len(rows[0]["met"]), 2)

    def test_one_destination_is_shown_with_the_part_of_each_worker(self) -> None:
        for at in (0, 2):
            self.post_mail(at, "x@a.example")
        said = self.get("dest/show", name="a.example")
        self.assertEqual([part["worker"] for part in said["workers"]], [0, 2])
        self.assertNotIn("silent", said)
        self.refused(self.socket.get("dest/show", name="nowhere.example"), 404, "nothing is known of nowhere.example")
        self.silence(1)
        self.assertEqual(self.get("dest/show", name="a.example")["silent"], [1])
        self.refused(self.socket.get("dest/show", name="nowhere.example"), 503, "but worker 1")

    def test_a_pause_is_for_all_workers_and_is_noted_once(self) -> None:
        self.post_mail(1, "x@a.example")
        said = self.post("dest/pause", name="A.example")
        self.assertEqual((said["paused"], said["known"], said["alike"]), ("a.example", True, []))
        for process in self.processes:
            self.assertEqual(process.world.relay.dispatcher.paused().names, ("a.example",))
        self.assertEqual([len(process.events("paused")) for process in self.processes], [1, 0, 0])
        self.assertEqual(self.get("status")["paused"], ["a.example"])
        self.assertEqual(self.get("dest")["destinations"][0]["obstacle"], "paused")
        self.assertEqual(self.post("dest/resume", name="a.example"), {"resumed": "a.example"})
        for process in self.processes:
            self.assertEqual(process.world.relay.dispatcher.paused().names, ())
        self.assertEqual([len(process.events("resumed")) for process in self.processes], [1, 0, 0])

    def test_a_pause_that_a_worker_has_not_heard_of_says_so_and_is_noted_by_another(self) -> None:
        self.silence(0)
        self.assertEqual(self.post("dest/pause", name="a.example")["silent"], [0])
        self.assertEqual([len(process.events("paused")) for process in self.processes], [0, 1, 0])

    def paused(self) -> list[tuple[str, ...]]:
        return [process.world.relay.dispatcher.paused().names for process in self.processes]

    def test_who_has_missed_a_pause_is_told_when_it_answers(self) -> None:
        self.silence(0)
        said = self.post("dest/pause", name="a.example")
        self.assertEqual(said["unheard"], ["worker 0: it has not answered: it is told as soon as it does"])
        self.pass_time(5)
        self.assertEqual(self.paused(), [(), ("a.example",), ("a.example",)])
        self.speak()
        self.assertEqual(self.get("status")["paused_in_part"], {"a.example": [0]})
        self.pass_time(AGAIN)
        self.assertEqual(self.paused(), [("a.example",)] * 3)
        self.assertEqual(self.get("status")["paused_in_part"], {})
        self.assertEqual([len(process.events("paused")) for process in self.processes], [0, 1, 0])
        asked = len(self.processes[0].asked)
        self.pass_time(60)
        self.assertEqual(len(self.processes[0].asked), asked)

    def test_the_last_word_counts_also_where_it_was_heard_before_the_others(self) -> None:
        self.silence(0)
        self.post("dest/pause", name="a.example")
        self.post("dest/pause", name="b.example")
        self.post("dest/resume", name="b.example")
        self.speak()
        self.post("dest/resume", name="a.example")
        self.pass_time(AGAIN)
        self.assertEqual(self.paused(), [()] * 3)

    def test_what_nobody_has_done_is_not_done_later(self) -> None:
        for index in range(3):
            self.silence(index)
        self.refused(self.socket.post("dest/pause", name="a.example"), 503, "worker 0: it does not answer")
        self.speak()
        self.pass_time(60)
        self.assertEqual(self.paused(), [()] * 3)

    def test_a_retired_worker_that_has_gone_is_told_nothing(self) -> None:
        self.silence(2)
        self.post("dest/pause", name="a.example")
        gone = self.processes.pop()
        gone.trouble = None
        asked = len(gone.asked)
        self.pass_time(60)
        self.assertEqual(len(gone.asked), asked)

    def test_who_pauses_all_that_begin_like_it_pauses_it(self) -> None:
        self.post("dest/pause", name="a.example")
        self.processes[1].world.relay.dispatcher.pause("a.example;tls=verify")
        self.assertEqual(self.get("status")["paused_in_part"], {})

    def test_the_worst_is_what_is_said(self) -> None:
        well = {"name": "x", "active": 1, "trailing": 0, "limit": 2, "ready": 3, "obstacle": None, "why": None}
        well |= {"in": None, "rate": "", "rate_left": None, "met": []}
        resting = {**well, "obstacle": "resting", "why": "rests", "in": 30.0, "rate_left": 4}
        paused = {**well, "obstacle": "paused", "why": "paused", "met": [{"ago": 9, "text": "old"}], "rate_left": 3}
        self.assertEqual(as_one([well])["obstacle"], None)
        said = as_one([well, resting, {**resting, "in": 20.0, "met": [{"ago": 1, "text": "new"}]}])
        self.assertEqual((said["obstacle"], said["why"], said["in"]), ("resting", "rests", 20.0))
        said = as_one([{**resting, "met": [{"ago": 1, "text": "new"}]}, paused, well])
        self.assertEqual((said["obstacle"], said["in"]), ("paused", None))
        self.assertEqual((said["active"], said["limit"], said["ready"]), (3, 6, 9))
        self.assertEqual((said["rate_left"], said["rate"]), (7, "7 more now"))
        self.assertEqual([met["text"] for met in said["met"]], ["old", "new"])


class HistoryTests(TogetherCase):
    def test_a_trace_has_the_lives_of_all_shards_and_the_newest_come_first(self) -> None:
        ids = [self.post_mail(at, "x@a.example") for at in (1, 0, 2)]
        said = self.get("trace", text="jon@example.net")
        self.assertEqual([life["id"] for life in said["lives"]], ids[::-1])
        self.assertEqual((said["since"], said["dropped"], said["more"]), (NOON, 0, False))
        self.assertEqual([life["id"] for life in self.get("trace", text=ids[2])["lives"]], [ids[2]])

    def test_no_more_is_told_than_one_would_tell(self) -> None:
        for at in (0, 1):
            for _ in range(15):
                self.post_mail(at, "x@a.example")
        said = self.get("trace", text="x@a.example")
        self.assertEqual((len(said["lives"]), said["more"]), (20, True))
        said = self.get("why", text="x@a.example")
        self.assertEqual((len(said["accounts"]), said["more"]), (20, True))

    def test_what_two_shards_know_of_one_message_is_one_life(self) -> None:
        id = self.post_mail(0, "x@a.example")
        self.processes[1].world.history = self.processes[0].world.history
        self.processes[1].desk = self.processes[0].desk
        alone = self.get("trace", text=id)["lives"]
        self.assertEqual(len(alone), 1)
        self.assertEqual(alone[0]["happenings"][0]["what"], "accepted")
        self.assertEqual([each["what"] for each in alone[0]["happenings"]].count("accepted"), 1)

    def test_a_refusal_that_had_no_id_yet_is_told_once(self) -> None:
        refusal = {"id": "", "left_out": 0, "happenings": [{"at": 5.0, "what": "refused", "fields": {"client": "x"}}]}
        other = {**refusal, "happenings": [{"at": 6.0, "what": "refused", "fields": {"client": "x"}}]}
        for process, lives in zip(self.processes, ([refusal], [other, refusal], []), strict=True):
            findings = {"lives": lives, "more": False, "since": None, "dropped": 1}
            process.desk = Desk({"trace": telling(findings)})
        said = self.get("trace", text="x")
        self.assertEqual((said["lives"], said["since"], said["dropped"]), ([other, refusal], None, 3))

    def test_who_keeps_no_history_is_told_of(self) -> None:
        self.processes[1].trouble = Refused("this relay keeps no history", 404)
        self.assertEqual(self.get("trace", text="x")["unheard"], ["worker 1: this relay keeps no history"])

    def test_why_is_asked_of_all(self) -> None:
        for at in (1, 2):
            self.post_mail(at, "x@a.example")
        said = self.get("why", text="jon@example.net")
        self.assertEqual(len(said["accounts"]), 2)
        times = [account["at"] for account in said["accounts"]]
        self.assertEqual(times, sorted(times, reverse=True))

    def test_that_nothing_was_found_is_told_with_who_has_not_looked(self) -> None:
        self.silence(2)
        said = self.get("trace", text="nobody@example.org")
        self.assertEqual((said["lives"], said["silent"]), ([], [2]))


class StatusTests(TogetherCase):
    def test_it_is_added_up_and_each_worker_has_its_part(self) -> None:
        for at in (0, 1, 1):
            self.post_mail(at, "x@a.example")
        said = self.get("status")
        self.assertEqual((said["pid"], said["hostname"], said["accepting"]), (99, "mx.test", True))
        self.assertEqual(said["configuration"]["digest"], "abcdef")
        self.assertEqual(said["queue"]["entries"], 3)
        self.assertEqual(said["queue"]["oldest_age"], 180.0)
        self.assertEqual(said["counts"]["accepted"], 3)
        self.assertEqual([listener["name"] for listener in said["listeners"]], ["127.0.0.1:2525"])
        self.assertEqual(
            [(part["worker"], part["pid"], part["retired"], part["queue"]["entries"]) for part in said["workers"]],
            [(0, 100, False, 1), (1, 101, False, 2), (2, 102, True, 0)],
        )

    def test_who_is_connected_to_any_worker_is_connected(self) -> None:
        for at in (0, 1, 1):
            self.processes[at].world.connect()
        self.assertEqual(self.get("status")["listeners"][0]["connections"], 3)

    def test_who_listens_nowhere_does_not_say_whether_mail_is_accepted(self) -> None:
        status = self.get("status")
        for at, expected in ((2, True), (1, False)):
            self.processes[at].desk = Desk({"status": telling({**status, "accepting": False})})
            self.assertEqual(self.get("status")["accepting"], expected)

    def test_a_worker_that_is_silent_is_told_of_all_the_same(self) -> None:
        self.silence(1, "it is being started")
        said = self.get("status")
        self.assertEqual((said["silent"], said["unheard"]), ([1], ["worker 1: it is being started"]))
        self.assertEqual(said["workers"][1], {"worker": 1, "pid": 101, "retired": False, "answers": False})
        for at in range(3):
            self.silence(at)
        self.assertFalse(self.get("status")["accepting"])


class OtherTests(TogetherCase):
    def test_a_reload_is_the_parents(self) -> None:
        self.assertEqual(self.post("reload")["digest"], "123456")
        self.assertEqual(self.reloads, ["reload"])
        self.assertEqual([process.asked for process in self.processes], [[], [], []])

    def test_any_worker_that_listens_explains(self) -> None:
        self.assertIn("reply", self.get("explain", to="x@a.example"))
        self.silence(0)
        self.assertIn("reply", self.post("explain", to="x@a.example"))
        self.assertEqual([process.asked for process in self.processes], [["explain"] * 2, ["explain"], []])
        self.refused(self.socket.get("explain", to="soup"), 400, "is no address")
        self.silence(1)
        self.refused(self.socket.get("explain", to="x@a.example"), 503, "worker 0: it does not answer; worker 1:")

    def test_what_the_spool_cannot_do_now_is_told_as_if_nobody_had_answered(self) -> None:
        self.processes[1].trouble = Refused("the spool cannot do this now: no space", 503)
        self.assertEqual(self.get("queue")["unheard"], ["worker 1: the spool cannot do this now: no space"])


class SuppressionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lists: list[list[str]] = [["x@a.example"], []]
        self.aside: list[bool] = []
        workers = [Worker(n, n, self.asking(n)) for n in (0, 1)]
        clock = MailWorld(SICK).time
        desk: Desk = desk_of_workers(lambda: workers, Parent(clock, "mx.test", 1, 0.0), lambda: None)  # type: ignore
        self.socket = Socket(desk)

    def asking(self, n: int) -> Any:
        async def ask(path: str, words: Any, act: bool, user: str | None = None, aside: bool = False) -> Any:
            known = self.lists[n]
            if path == "suppress":
                return {"suppressed": [{"address": each} for each in known], "next": ""}
            self.aside.append(aside)
            address = words["address"]
            if path == "suppress/add":
                known.append(address)
                return {"address": address}
            if address not in known:
                raise Refused(f"{address} is not on the suppression list", 404)
            known.remove(address)
            return {"removed": address}

        return ask

    def test_any_worker_shows_the_list(self) -> None:
        self.assertEqual(len(self.socket.get("suppress")[1]["suppressed"]), 1)

    def test_all_of_them_add_and_one_of_them_notes_it(self) -> None:
        self.assertEqual(self.socket.post("suppress/add", address="y@b.example"), (200, {"address": "y@b.example"}))
        self.assertEqual(self.lists, [["x@a.example", "y@b.example"], ["y@b.example"]])
        self.assertEqual(self.aside, [False, True])

    def test_who_is_on_the_list_of_one_is_taken_off(self) -> None:
        self.assertEqual(self.socket.post("suppress/remove", address="x@a.example"), (200, {"removed": "x@a.example"}))
        self.assertEqual(self.socket.post("suppress/remove", address="x@a.example")[0], 404)
