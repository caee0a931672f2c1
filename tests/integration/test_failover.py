"""The primary dies and a replica takes its place, with other binlog files: the listener goes on by GTID, or says that it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pixtail.core.changes import Op, Tombstone
from pixtail.core.errors import PositionLost
from pixtail.core.settings import Mysql
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.process import HOST
from pixtail.servers.sql import SqlServer
from tests.conftest import serve
from tests.integration.listener_kit import IMAGES, Listening, Source, wait_for
from tests.support.forwarder import Forwarder

REPLICA = ["--log-bin=other", "--log-slave-updates", "--skip-slave-start"]


class Cluster:
    """A primary, its replica, and the one address under which clients find whichever is the primary now."""

    def __init__(self, primary: SqlServer, replica: SqlServer, forwarder: Forwarder) -> None:
        self.primary = primary
        self.replica = replica
        self.forwarder = forwarder

    @property
    def _mysql(self) -> bool:
        return self.primary.name == "mysql"

    def replicate(self) -> None:
        how = "MASTER_AUTO_POSITION=1" if self._mysql else "MASTER_USE_GTID=slave_pos"
        self.replica.execute(
            f"CHANGE MASTER TO MASTER_HOST='{HOST}', MASTER_PORT={self.primary.port}, MASTER_USER='root', {how}",
            "START SLAVE",
            *["FLUSH BINARY LOGS"] * 3,  # so that neither a file's name nor an offset means the same on both
        )

    def wait_until_replicated(self) -> None:
        position = "gtid_executed" if self._mysql else "gtid_current_pos"
        done = str(self.primary.query(f"SELECT @@GLOBAL.{position}")[0][0])
        wait = "WAIT_FOR_EXECUTED_GTID_SET" if self._mysql else "MASTER_GTID_WAIT"
        assert self.replica.query(f"SELECT {wait}('{done}', 20)") == [(0,)]

    def stop_replication(self) -> None:
        self.replica.execute("STOP SLAVE")

    def write_on_the_replica(self, source: Source, statement: str) -> None:
        """A transaction that the primary does not have. MariaDB's strict mode wants it in a domain of its own."""
        with self.replica.connect(source.name) as connection, connection.cursor() as cursor:
            if not self._mysql:
                cursor.execute("SET SESSION gtid_domain_id = 7")
            cursor.execute(statement)

    def purge(self) -> None:
        """All files of the replica but a new one. MariaDB keeps those that a checkpoint may need, and says nothing."""
        self.replica.execute("FLUSH BINARY LOGS")
        last = self.replica.query("SHOW BINARY LOGS")[-1][0]

        def purged() -> bool:
            self.replica.execute(f"PURGE BINARY LOGS TO '{last}'")
            return str(self.replica.query("SHOW BINARY LOGS")[0][0]) == last

        wait_for(purged, "purged binlogs")

    def fail_over(self, source: Source) -> None:
        """The primary has no time to say good-bye; from now on `source` writes to the replica."""
        self.primary.kill()
        self.replica.execute("STOP SLAVE", "RESET SLAVE ALL")
        source.server = self.replica
        self.forwarder.switch(self.replica.port)


@pytest.fixture(params=[MysqlServer, MariadbServer], ids=["mysql", "mariadb"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    for primary in serve(request.param()):
        for replica in serve(request.param(extra=REPLICA, server_id=2)):
            with Forwarder(primary.port) as forwarder:
                made = Cluster(primary, replica, forwarder)
                made.replicate()
                yield made


@pytest.fixture
def source(cluster: Cluster, kafka: KafkaServer, unique: str) -> Source:
    made = Source(cluster.primary, kafka, unique)
    made.sql(IMAGES)
    address = f"mysql://root@{HOST}:{cluster.forwarder.port}/{unique}?ssl_mode=DISABLED"
    made.settings = made.settings.model_copy(update={"mysql": Mysql(url=address)})
    return made


def created(first: int, last: int) -> list[tuple[str, Any]]:
    return [("c", n) for n in range(first, last + 1)]


def assert_in_order(source: Source) -> None:
    for seqs in source.seqs_by_partition():
        assert seqs == sorted(set(seqs))


def started(source: Source, **options: Any) -> Listening:
    listening = Listening(source.settings, **options)
    listening.start()
    return listening


def wait_until_following(source: Source) -> None:
    """Behind the snapshot: what is inserted from now on is `c`."""
    wait_for(lambda: (saved := source.saved()) and saved.snapshot is None, "the end of the snapshot")


def assert_lost(listening: Listening) -> None:
    failure = listening.wait_until_ended()
    assert isinstance(failure, PositionLost), failure
    assert failure.exit_status == 3
    assert failure.remedy


def folded(source: Source) -> dict[int, int]:
    """What somebody who follows the topic believes to be in the table: id and n."""
    believed: dict[int, int] = {}
    for entry in source.entries():
        if isinstance(entry, Tombstone) or entry.op is Op.DELETE:
            believed.pop(entry.key["id"], None)
        elif entry.op is Op.TRUNCATE:
            believed.clear()
        else:
            assert entry.after is not None
            believed[entry.key["id"]] = entry.after["n"]
    return believed


def test_it_goes_on_where_it_was_on_the_promoted_replica(cluster: Cluster, source: Source) -> None:
    """Nothing is lost, repeated or out of order; what the replica alone had done is told too, once."""
    with source.listening(flush_rows=5):
        wait_until_following(source)
        for n in range(1, 61):
            source.insert(n, n)
            if n == 40:
                cluster.forwarder.switch(0)  # so that the replica is ahead of the listener when it takes over
        cluster.wait_until_replicated()
        cluster.write_on_the_replica(source, "INSERT INTO images VALUES (1000, 'p', 0)")
        cluster.fail_over(source)
        source.insert(61, 80)
        source.sql("UPDATE images SET n = 0 WHERE id = 1", "DELETE FROM images WHERE id = 2")
        source.wait_for_entries(84)
    story = source.story()
    assert [step for step in story if step != ("c", 1000)] == [*created(1, 80), ("u", 1), ("d", 2), ("", 2)]
    assert story.count(("c", 1000)) == 1
    assert_in_order(source)
    saved = source.saved()
    assert saved is not None
    assert saved.position.file.startswith("other.")


def test_a_replica_that_lacks_what_was_read_is_never_followed_and_a_new_snapshot_heals_that(
    cluster: Cluster, source: Source
) -> None:
    listening = started(source)
    wait_until_following(source)
    source.insert(1, 3)
    source.wait_for_entries(3)
    cluster.wait_until_replicated()
    cluster.stop_replication()
    for n in (4, 5):
        source.insert(n, n)
    source.wait_for_entries(5)
    cluster.fail_over(source)
    assert_lost(listening)
    for n in range(11, 21):  # the replica's own transactions overtake the numbers of those that it lacks
        source.insert(n, n)
    assert_lost(started(source))
    assert source.story() == created(1, 5)
    with source.listening(on_lost_position="snapshot"):
        source.insert(21, 21)
        truth = {int(key): int(n) for key, n in cluster.replica.query("SELECT id, n FROM images", source.name)}
        wait_for(lambda: truth.items() <= folded(source).items(), "a topic that says what is in the table")
    assert folded(source).keys() - truth.keys() == {4, 5}  # gone unseen: `verify` finds those
    assert_in_order(source)


def test_a_replica_that_has_purged_what_was_not_read_is_never_followed(cluster: Cluster, source: Source) -> None:
    listening = started(source)
    wait_until_following(source)
    source.insert(1, 3)
    source.wait_for_entries(3)
    cluster.forwarder.switch(0)
    source.insert(4, 4)
    cluster.wait_until_replicated()
    cluster.purge()
    cluster.fail_over(source)
    assert_lost(listening)
    assert source.story() == created(1, 3)
