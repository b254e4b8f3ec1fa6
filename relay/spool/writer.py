"""
The writer: one thread that has the database, and commits what arrived while its last commit ran.

The boundary between the two threads:

* The reactor's thread (`relay.spool.sqlite`) has drafts, claims, deferreds and the queue of requests. It never
  touches a connection.
* The writer's thread runs everything in this module, in `claiming`, `hastening`, `questions`, `recovery`, `schema`,
  `selecting` and `steering`.
  It has the connection and the owner's lock, and never touches a draft or a deferred.
* What crosses are the requests below, made of texts, numbers and octets, and their results: values that nobody changes.
  A batch crosses whole, and its results come back in one call.

The outcome of a request is its result or an exception, each its own: commits of one batch share a sync and do not
share an error.
"""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, TypeAlias, cast

from attrs import define, frozen

from relay.interfaces import ActUnknown, ClaimLost, OutcomeUnknown, SpoolError
from relay.mail.queue import Census, Entry, Pending
from relay.mail.selection import Group, Page, Selection, Tally
from relay.net.disk import sync_directory, write_all
from relay.spool import questions, recovery, selecting, steering
from relay.spool.claiming import Shelves, Wanted
from relay.spool.codec import Encoder, Row
from relay.spool.disk import SpoolDisk, create, remove
from relay.spool.errors import Damaged, SpoolUnusable
from relay.spool.hastening import Hasten, hasten
from relay.spool.layout import Layout, prepare
from relay.spool.schema import open_database
from relay.spool.several import begin
from relay.spool.steering import Steer
from relay.spool.strokes import MERGED, Changes, Statement, Stroke


@define(eq=False)
class Commit:
    """
    A commit's steps: statements, and the rows of each. The result: which of `in_files` have gone with it, so that their
    files are of no use.
    """

    statements: tuple[Statement, ...]
    rows: Sequence[Sequence[Row]]
    in_files: tuple[str, ...] = ()

    @property
    def strokes(self) -> Iterable[Stroke]:
        return zip(self.statements, self.rows, strict=True)


@define(eq=False)
class Errand:
    """Anything else: done by itself, behind the batch's commit. The result is what `run` returns."""

    run: Callable[[Writer], object]


Request: TypeAlias = Commit | Wanted | Hasten | Steer | Errand


@frozen(eq=False)
class Done:
    """What came of a batch: a result or an exception for each of its requests, in order."""

    results: Sequence[Any]
    #: Why nothing can be written any more until a probe has passed, or "".
    refusing: str = ""


class _Disagreement(Exception):
    """A batch cannot be carried out in one: some commit in it must fail by itself."""


class Writer:
    """Carries out batches. All methods are for the writer's thread."""

    def __init__(self, layout: Layout, disk: SpoolDisk, token: Callable[[], int]) -> None:
        self._layout = layout
        self._disk = disk
        self._shelves = Shelves(layout, disk, token)
        #: One of its own: the reactor's is for the reactor's thread.
        self._encoder = Encoder()
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None
        #: Since an outcome that is unknown, and until a probe has passed, nothing is written: why.
        self._refusing = ""

    def run(self, batch: Sequence[Request]) -> Done:
        """Carry out these requests. Returns when what they changed survives a power cut."""
        # A commit that has nothing else to say says this.
        results: list[Any] = [()] * len(batch)
        if set(map(type, batch)) == {Commit}:
            # As it is nearly always.
            self._change(batch, dict(enumerate(cast(Sequence[Commit], batch))), {}, results)
            return Done(results, self._refusing)
        commits: dict[int, Commit] = {}
        others: dict[int, Wanted | Hasten | Steer] = {}
        errands: dict[int, Errand] = {}
        for at, request in enumerate(batch):
            match request:
                case Commit():
                    commits[at] = request
                case Errand():
                    errands[at] = request
                case _:
                    others[at] = request
        if commits or others:
            self._change(batch, commits, others, results)
        for at, errand in errands.items():
            results[at] = self._errand(errand)
        return Done(results, self._refusing)

    # Errands.

    def recover(self) -> recovery.Recovered:
        """`ISpool.recover`, behind the lock."""
        self._own()
        database = self._database()
        try:
            return recovery.recover(database, self._shelves, self._layout, self._disk)
        except sqlite3.DatabaseError as problem:
            raise SpoolUnusable(f"{self._layout.database} cannot be recovered: {problem}") from problem

    def next_due(self, excluding: frozenset[str]) -> float | None:
        return questions.next_due(self._database(), excluding)

    def census(self, now: float) -> Census:
        return questions.census(self._database(), now)

    def look_up(self, id: str) -> tuple[Entry, tuple[Pending, ...]] | None:
        try:
            return questions.look_up(self._database(), self._shelves.decoder, id)
        except Damaged as problem:
            raise SpoolError(f"{id} cannot be read: {problem}") from problem

    def select(self, selection: Selection, now: float, most: int, after: str) -> Page:
        return selecting.select(self._database(), self._shelves.decoder, selection, now, most, after)

    def tally(self, selection: Selection, by: Group, now: float, after: str) -> Tally:
        return selecting.tally(self._database(), selection, by, now, after)

    def probe(self) -> None:
        """See whether writing works, both to the database and to a file. Raises if not."""
        self._write_a_file()
        self._prove(())
        self._refusing = ""

    def close(self) -> None:
        """Let go of the files. May be called again."""
        self._drop()
        lock, self._lock = self._lock, None
        if lock is not None:
            self._disk.close(lock)

    def _errand(self, errand: Errand) -> object:
        try:
            return errand.run(self)
        except (sqlite3.Error, OSError) as problem:
            return _spool_error(problem)
        except Exception as problem:
            return problem

    # Changes.

    def _change(
        self,
        batch: Sequence[Request],
        commits: Mapping[int, Commit],
        others: Mapping[int, Wanted | Hasten | Steer],
        results: list[Any],
    ) -> None:
        """
        One transaction for all that a batch changes: its commits, by their places in it, then the others. Until COMMIT
        is said, it is certain that nothing is kept.
        """
        changes = (*commits, *others)
        try:
            database = self._database()
            begin(database)
            self._commit(database, commits, results)
            for at, request in others.items():
                results[at] = _by_itself(database, partial(self._carry_out, database, request))
        except Exception as problem:
            self._roll_back()
            for at in changes:
                results[at] = _spool_error(problem)
            return
        if all(isinstance(results[at], Exception) for at in changes):
            self._roll_back()
            return
        try:
            # As `begin`, this lets go of Python's lock but once.
            database.commit()
        except Exception as problem:
            self._find_out(batch, changes, results, problem)
        for at, commit in commits.items():
            if commit.in_files and results[at] == ():
                results[at] = self._gone(commit.in_files)

    def _commit(self, database: sqlite3.Connection, commits: Mapping[int, Commit], results: list[Any]) -> None:
        try:
            _all_in_one(commits.values(), database)
        except Exception:
            # Whose fault it is shows when each is carried out by itself.
            if database.in_transaction:
                database.execute("ROLLBACK")
            begin(database)
            for at, commit in commits.items():
                results[at] = _by_itself(database, partial(_strike, database, commit))

    def _carry_out(self, database: sqlite3.Connection, request: Wanted | Hasten | Steer) -> object:
        match request:
            case Wanted():
                return self._shelves.claim(database, request)
            case Hasten():
                return hasten(database, request)
            case Steer():
                return steering.steer(database, self._shelves.decoder, self._encoder, request)

    def _gone(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Which of these entries are no more. In doubt none: a file that is left is removed by `recover`."""
        try:
            return questions.gone(self._database(), ids)
        except (sqlite3.Error, SpoolError):
            return ()

    # An error from COMMIT.

    def _find_out(
        self, batch: Sequence[Request], changes: Sequence[int], results: list[Any], problem: Exception
    ) -> None:
        """
        COMMIT has failed, and may have happened. Open the database anew and see, by a commit that succeeds.

        What is there then has happened, since that commit has made it durable: its result stands. What is not there
        will never come back, and is a `SpoolError`. Where this cannot be found out either, the outcome is unknown.
        """
        succeeded = [at for at in changes if not isinstance(results[at], Exception)]
        strokes = [stroke for at in succeeded if isinstance(request := batch[at], Commit) for stroke in request.strokes]
        acts = [results[at].witness for at in succeeded if isinstance(batch[at], Steer)]
        try:
            happened = self._prove((*acts[-1:], *strokes))
        except Exception as worse:
            self._drop()
            self._refusing = f"{problem}; then {worse}"
            for at in succeeded:
                # A claim that may have happened needs no answer: it expires. Nor does haste.
                results[at] = self._unknown(batch[at], results[at])
                results[at].__cause__ = problem
            return
        if not happened:
            for at in succeeded:
                results[at] = _spool_error(problem)

    def _unknown(self, request: Request, result: Any) -> Exception:
        if isinstance(request, Steer):
            return ActUnknown(self._refusing, result.steered)
        return OutcomeUnknown(self._refusing) if isinstance(request, Commit) else SpoolError(self._refusing)

    def _prove(self, strokes: Iterable[Stroke]) -> bool:
        """
        Whether the transaction with these strokes has happened, proved by a commit on a connection of its own.

        The log is first written into the database and cut off: behind an error of its sync it may have a hole on
        the disk that the kernel's memory does not show, and what were written behind that would be lost.
        """
        self._drop()
        database = self._open()
        busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise SpoolError("another process is reading the spool")
        database.execute("BEGIN IMMEDIATE")
        happened = _has_happened(database, strokes)
        database.execute("UPDATE probes SET passed = passed + 1")
        database.execute("COMMIT")
        return happened

    def _write_a_file(self) -> None:
        path = self._layout.content / "probe"
        remove(self._disk, path)
        file = create(self._disk, path)
        try:
            write_all(self._disk, file, b"probe\n")
            self._disk.sync(file)
        finally:
            self._disk.close(file)
        remove(self._disk, path)
        sync_directory(self._disk, str(self._layout.content))

    # The connection and the lock.

    def _database(self) -> sqlite3.Connection:
        if self._refusing:
            raise SpoolError(f"the spool waits until writing works again: {self._refusing}")
        return self._connection or self._open()

    def _open(self) -> sqlite3.Connection:
        prepare(self._layout, self._disk)
        self._connection = open_database(self._layout, self._disk)
        return self._connection

    def _drop(self) -> None:
        """Close the connection, if that is possible: what matters has been committed, or is about to be proved."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _roll_back(self) -> None:
        database = self._connection
        if database is not None and database.in_transaction:
            try:
                database.execute("ROLLBACK")
            except sqlite3.Error:
                self._drop()

    def _own(self) -> None:
        """Be the only process with this spool until `close`."""
        if self._lock is not None:
            return
        prepare(self._layout, self._disk)
        path = self._layout.lock
        try:
            file = self._disk.open(str(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            try:
                if not self._disk.lock(file):
                    raise SpoolUnusable(f"{self._layout.path}: another process has this spool{_owner(path)}")
                write_all(self._disk, file, b"%10d\n" % os.getpid())
            except BaseException:
                self._disk.close(file)
                raise
        except OSError as problem:
            raise SpoolUnusable(f"{path}: {problem.strerror}") from problem
        self._lock = file


def _all_in_one(commits: Iterable[Commit], database: sqlite3.Connection) -> None:
    """
    All commits statement by statement, without a savepoint. Raises unless each row changed what it should.

    This is how nearly every batch goes; one that raises is rolled back and carried out commit by commit.
    """
    # Most of them have the same statements.
    alike: dict[tuple[Statement, ...], list[Sequence[Sequence[Row]]]] = defaultdict(list)
    for commit in commits:
        alike[commit.statements] += (commit.rows,)
    together: dict[Statement, list[Row]] = {statement: [] for statement in MERGED}
    try:
        for statements, of_each in alike.items():
            for statement, of_all in zip(statements, zip(*of_each, strict=True), strict=True):
                together[statement] += chain.from_iterable(of_all)
    except KeyError:
        # One that means what it finds, and in its turn.
        raise _Disagreement from None
    for statement, rows in together.items():
        if rows and not _changed_as_it_should(database, statement, rows):
            raise _Disagreement


def _strike(database: sqlite3.Connection, commit: Commit) -> tuple[()]:
    """All that it has to say when it succeeds."""
    for statement, rows in commit.strokes:
        if rows and not _changed_as_it_should(database, statement, rows):
            raise ClaimLost("another holder has these recipients now, or they are settled")
    return ()


def _changed_as_it_should(database: sqlite3.Connection, statement: Statement, rows: Sequence[Row]) -> bool:
    changed = statement.strike(database, rows)
    match statement.changes:
        case Changes.EACH:
            return changed == len(rows)
        case Changes.SOME:
            return changed > 0


def _by_itself(database: sqlite3.Connection, work: Callable[[], object]) -> object:
    """The result of this, or its error, which takes back what it did and nothing else of the batch."""
    database.execute("SAVEPOINT one")
    try:
        result = work()
    except Exception as problem:
        if not database.in_transaction:
            # A full disk or an I/O error has ended the transaction, and so every commit of the batch.
            raise
        database.execute("ROLLBACK TO one")
        database.execute("RELEASE one")
        return _spool_error(problem)
    database.execute("RELEASE one")
    return result


def _has_happened(database: sqlite3.Connection, strokes: Iterable[Stroke]) -> bool:
    """One row with a witness answers for all, since a transaction happens as a whole."""
    for statement, rows in strokes:
        if statement.witness and rows:
            found = database.execute(statement.witness, rows[0][statement.key]).fetchone()
            return (found is not None) is statement.present
    return False


def _spool_error(problem: Exception) -> SpoolError:
    if isinstance(problem, SpoolError):
        return problem
    error = SpoolError(f"{type(problem).__name__}: {problem}")
    error.__cause__ = problem
    return error


def _owner(lock: os.PathLike[str]) -> str:
    try:
        with open(lock, encoding="ascii") as file:
            return f" (process {int(file.read(20))})"
    except (OSError, ValueError):
        return ""
