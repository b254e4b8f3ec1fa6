"""What each of several workers has of a relay."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import mkdtemp

from twisted.trial.unittest import SynchronousTestCase

from relay.config.settings import Settings
from relay.sharing import Share, count_of, in_words, settings_of_share, shard, shares_of


def settings(**sections: object) -> Settings:
    return Settings.model_validate({"spool": {"path": "/srv/spool"}, "control": {"socket": "/run/c.sock"}, **sections})


class SharesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.spool = Path(mkdtemp(dir=self.mktemp_folder()))

    def mktemp_folder(self) -> str:
        path = self.mktemp()
        os.makedirs(path)
        return path

    def shares(self, workers: int | str) -> tuple[Share, ...]:
        return shares_of(settings(spool={"path": str(self.spool)}, process={"workers": workers}))

    def test_one_worker_is_the_whole_relay(self) -> None:
        self.assertEqual(self.shares(1), (Share(0, 1),))

    def test_there_is_one_for_each_that_is_asked_for(self) -> None:
        self.assertEqual(self.shares(3), (Share(0, 3), Share(1, 3), Share(2, 3)))

    def test_people_are_told_who_works_and_what_is_left(self) -> None:
        left = Share(2, 1, retired=True), Share(3, 1, retired=True)
        self.assertEqual(in_words([Share(0, 2), Share(1, 2)]), "2 workers do the work")
        self.assertEqual(in_words([Share(0, 1)]), "One worker does the work")
        self.assertEqual(
            in_words([Share(0, 1), *left]),
            "One worker does the work; mail that is left in shard 2, shard 3 is delivered too",
        )

    def test_auto_is_one_for_each_processor_that_the_process_may_use(self) -> None:
        self.patch(os, "sched_getaffinity", lambda pid: {2, 3, 5})
        self.assertEqual(count_of(settings(process={"workers": "auto"})), 3)

    def test_what_is_left_of_others_is_retired(self) -> None:
        for index in (1, 2, 10):
            shard(self.spool, index).mkdir(parents=True)
        self.assertEqual(self.shares(2), (Share(0, 2), Share(1, 2), Share(2, 2, True), Share(10, 2, True)))
        self.assertEqual(self.shares(1)[1:], (Share(1, 1, True), Share(2, 1, True), Share(10, 1, True)))

    def test_nobody_elses_folder_is_a_shard(self) -> None:
        for name in ("0", "01", "+1", "x", "²", "1.old"):
            (self.spool / "shards" / name).mkdir(parents=True)
        self.assertEqual(self.shares(1), (Share(0, 1),))

    def test_a_spool_in_memory_has_left_nothing(self) -> None:
        shard(self.spool, 1).mkdir(parents=True)
        found = shares_of(settings(spool={"path": str(self.spool), "engine": "memory"}))
        self.assertEqual(found, (Share(0, 1),))


class SettingsTests(SynchronousTestCase):
    def test_the_first_worker_has_the_files_of_a_relay_without_workers(self) -> None:
        found = settings_of_share(settings(), Share(0, 2))
        self.assertEqual(found.spool.path, Path("/srv/spool"))
        self.assertEqual(found.history.path, Path("/srv/history.db"))
        self.assertEqual(found.store.path, Path("/srv/store.db"))
        self.assertEqual(found.suppression.path, Path("/srv/suppressed"))

    def test_others_have_their_own_spool_and_history_and_share_what_is_known(self) -> None:
        found = settings_of_share(settings(), Share(3, 4))
        self.assertEqual(found.spool.path, Path("/srv/spool/shards/3"))
        self.assertEqual(found.history.path, Path("/srv/spool/shards/3/history.db"))
        self.assertEqual(found.store.path, Path("/srv/store.db"))
        self.assertEqual(found.suppression.path, Path("/srv/suppressed"))

    def test_what_the_operator_has_named_stays_named_so(self) -> None:
        said = settings(
            history={"path": "/h/x.db"},
            store={"path": "/s/x.db"},
            suppression={"path": "/p/list"},
            process={"workers": 2},
        )
        first, second = (settings_of_share(said, Share(index, 2)) for index in range(2))
        self.assertEqual((first.history.path, first.store.path), (Path("/h/x.db"), Path("/s/x.db")))
        self.assertEqual(second.history.path, Path("/srv/spool/shards/1/history.db"))
        self.assertEqual((second.store.path, second.suppression.path), (Path("/s/x.db"), Path("/p/list")))

    def test_each_has_a_control_socket_of_its_own(self) -> None:
        found = [settings_of_share(settings(), Share(index, 2)).control.socket for index in range(2)]
        self.assertEqual(found, [Path("/run/c.sock.0"), Path("/run/c.sock.1")])
