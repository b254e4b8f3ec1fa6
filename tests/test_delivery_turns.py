from __future__ import annotations

from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.delivery.turns import Sender, Turns, sender_of
from relay.mail.address import Address
from relay.mail.envelope import Client, Envelope


@define(eq=False)
class Letter:
    name: str
    priority: int = 0


def add(turns: Turns[Letter], letter: Letter) -> None:
    turns.add(letter, ("", "", letter.name), letter.priority)


def order(turns: Turns[Letter]) -> str:
    return "".join(turns.take().name for _ in range(len(turns)))


def waiting(names: str) -> Turns[Letter]:
    turns: Turns[Letter] = Turns()
    for name in names:
        add(turns, Letter(name))
    return turns


class TurnsTests(SynchronousTestCase):
    def test_senders_take_turns(self) -> None:
        self.assertEqual(order(waiting("aaaabbc")), "abcabaa")

    def test_one_letter_is_not_behind_ten_thousand(self) -> None:
        turns = waiting("n" * 10_000)
        for _ in range(100):
            turns.take()
        add(turns, Letter("p"))
        self.assertEqual([turns.take().name for _ in range(3)], ["n", "p", "n"])

    def test_who_writes_one_letter_after_the_other_does_not_pass_the_rest_for_ever(self) -> None:
        turns = waiting("n" * 20)
        taken = []
        for _ in range(40):
            add(turns, Letter("p"))
            taken.append(turns.take().name)
        self.assertEqual(taken.count("n"), 20)

    def test_who_comes_back_has_no_credit_and_no_debt(self) -> None:
        turns = waiting("a" * 50)
        order(turns)
        for name in "bbaa":
            add(turns, Letter(name))
        self.assertEqual(order(turns), "baba")

    def test_what_is_urgent_passes(self) -> None:
        turns = waiting("aab")
        add(turns, Letter("u", priority=1))
        self.assertEqual(order(turns), "uaba")

    def test_whoever_has_most_makes_a_place_for_who_has_less(self) -> None:
        turns = waiting("aaabb")
        displaced = turns.displace(("", "", "c"))
        assert displaced is not None
        self.assertEqual(displaced.name, "a")
        add(turns, Letter("c"))
        self.assertEqual(order(turns), "abcab")

    def test_but_not_for_itself_nor_for_who_has_as_much(self) -> None:
        turns = waiting("aabb")
        self.assertIsNone(turns.displace(("", "", "a")))
        turns = waiting("ab")
        self.assertIsNone(turns.displace(("", "", "c")))

    def test_the_last_is_displaced_and_not_the_first(self) -> None:
        turns: Turns[Letter] = Turns()
        letters = [Letter("a") for _ in range(5)]
        for letter in letters:
            add(turns, letter)
        self.assertIs(turns.displace(("", "", "b")), letters[-1])
        self.assertEqual([turns.take() for _ in range(4)], letters[:-1])

    def test_whoever_has_most_at_the_moment_makes_a_place_each_time(self) -> None:
        turns = waiting("aaaabbb")
        displaced = [turns.displace(("", "", "c")) for _ in range(6)]
        self.assertEqual([work and work.name for work in displaced[1:5]].count("b"), 2)
        self.assertEqual(["-" if work is None else "x" for work in displaced], list("xxxxx-"))
        self.assertEqual(sorted(order(turns)), ["a", "b"])

    def test_who_was_displaced_is_not_behind_its_place_afterwards(self) -> None:
        turns = waiting("aaaabbb")
        turns.displace(("", "", "c"))
        for name in "ab":
            add(turns, Letter(name))
        self.assertEqual(order(turns), "abababab")

    @given(st.lists(st.sampled_from([*"abcdt", "a!", "b!", "-"]), max_size=80))
    def test_nobody_is_lost_and_nobody_comes_twice(self, steps: list[str]) -> None:
        turns: Turns[Letter] = Turns()
        here: set[int] = set()
        for step in steps:
            if step == "t" and len(turns):
                here.remove(id(turns.take()))
            elif step == "-" and len(turns):
                gone = turns.displace(("", "", "z"))
                if gone is not None:
                    here.remove(id(gone))
            elif step not in "t-":
                letter = Letter(step[0], 3 if "!" in step else 0)
                add(turns, letter)
                letters.append(letter)
                here.add(id(letter))
            self.assertEqual(len(turns), len(here))
        self.assertEqual({id(letter) for letter in turns}, here)
        self.assertEqual({id(letter) for letter in turns.drain()}, here)
        self.assertEqual((len(turns), turns._senders), (0, {}))


#: They stay alive, so that their ids stay theirs.
letters: list[Letter] = []


class SenderTests(SynchronousTestCase):
    def sender(self, path: str, user: str | None = None) -> Sender:
        reverse_path = Address.parse(path) if path else None
        return sender_of(Envelope(reverse_path, client=Client("192.0.2.1", user=user)))

    def test_a_newsletter_is_one_sender_whatever_its_verp_makes(self) -> None:
        self.assertEqual(
            {
                self.sender("news-0815-bob=example.org@lists.test"),
                self.sender("news-4711-ann=example.net@lists.test"),
                self.sender("News-1@lists.test"),
            },
            {("", "lists.test", "news-")},
        )
        self.assertEqual(self.sender("list+bob=x.test@lists.test"), self.sender("list+ann=y.test@lists.test"))

    def test_two_people_are_two_and_so_are_two_users(self) -> None:
        senders = [self.sender("ann@x.test"), self.sender("bob@x.test"), self.sender("ann@y.test")]
        senders += [self.sender("ann@x.test", "ann"), self.sender("ann@x.test", "script"), self.sender("")]
        self.assertEqual(len(set(senders)), 6)
