"""Open files: the soft limit is raised, and the hard one is what it is."""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase

from relay.net.descriptors import room_for


class DescriptorTests(SynchronousTestCase):
    def setUp(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.hard = before[1]
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, self.hard))

    def test_as_many_as_are_needed_may_be_open(self) -> None:
        self.assertEqual(room_for(300), 300)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (300, self.hard))

    def test_what_is_enough_stays(self) -> None:
        self.assertEqual(room_for(100), 256)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 256)

    def test_nobody_gets_more_than_the_machine_gives(self) -> None:
        self.assertEqual(room_for(self.hard + 1), self.hard)
