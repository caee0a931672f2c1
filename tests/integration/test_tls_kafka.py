"""TLS, SASL and ACLs against a real broker: every client gets through, and what is wrong is one line that names what to correct."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ingest.listener import Listener
from pixtail.bus.consumer import ChangeConsumer
from pixtail.bus.dead_letters import DeadLetter, DeadLetters
from pixtail.bus.inspection import describe_broker
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.reading import TopicReader
from pixtail.bus.topics import ensure_topics
from pixtail.core.errors import BusUnreachable, Reason, SettingError
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Kafka
from pixtail.servers.mariadb import MariadbServer
from tests.conftest import serve
from tests.integration.listener_kit import IMAGES, Source, wait_for
from tests.support.secured_kafka import Options, Secured


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    made = Secured(tmp_path_factory.mktemp("pki"))
    for _ in serve(made.server):
        yield made


WAYS: dict[str, Callable[[Secured], Options]] = {
    "tls": lambda secured: secured.over("TLS"),
    "client-certificate": lambda secured: secured.mutual(),
    "key-beside-certificate": lambda secured: secured.over("MUTUAL", ssl_certfile=str(secured.client.both)),
    "plain": lambda secured: secured.sasl("PLAIN"),
    "scram-256": lambda secured: secured.sasl("SCRAM-SHA-256"),
    "scram-512": lambda secured: secured.sasl("SCRAM-SHA-512"),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_client_gets_through(secured: Secured, mariadb: MariadbServer, unique: str, way: str) -> None:
    """The listener has an admin client, a producer and a state reader; the worker a consumer and the dead letters."""
    source = Source(mariadb, secured.server, unique)
    kafka = Kafka(prefix=unique, partitions=1, **WAYS[way](secured))
    source.settings = source.settings.model_copy(update={"kafka": kafka})
    source.sql(IMAGES)
    with source.listening() as listening:
        listening.wait_until_ready()
        source.insert(1, 1)
        assert source.wait_for_entries(1)
    assert source.saved()
    consumer = ChangeConsumer(kafka, source.topics.changes, unique)
    consumer.open()
    received = wait_for(lambda: consumer.poll(0.2, 10), "a change", limit_s=60)
    assert consumer.commit({0: received[0].offset + 1})
    consumer.close()
    put_a_letter(kafka, source)
    assert describe_broker(kafka)


def put_a_letter(kafka: Kafka, source: Source) -> None:
    letters = DeadLetters(kafka, source.topics)
    letters.open()
    letters.put([DeadLetter(b'{"id":1}', None, 1, Reason.CORRUPT, "", 1, "", "")])
    letters.close()
    letters.open()
    assert len(letters.letters) == 1
    letters.close()


WRONG: dict[str, tuple[Callable[[Secured], Options], tuple[str, ...]]] = {
    "unknown-ca": (
        lambda secured: secured.over("TLS", ssl_cafile=str(secured.stranger.certificate)),
        ("signed by no CA that we trust", "kafka.ssl_cafile"),
    ),
    "system-cas": (lambda secured: secured.over("TLS", ssl_cafile=None), ("signed by no CA", "kafka.ssl_cafile")),
    "missing-file": (
        lambda secured: secured.over("TLS", ssl_cafile="/no/ca.pem"),
        ("kafka.ssl_cafile: /no/ca.pem cannot be read", "No such file"),
    ),
    "other-host": (
        lambda secured: (
            secured.over("TLS") | {"bootstrap": secured.server.address("TLS").replace("127.0.0.1", "localhost")}
        ),
        ("for another host", "kafka.bootstrap"),
    ),
    "no-client-certificate": (lambda secured: secured.over("MUTUAL"), ("wants to see one", "kafka.ssl_certfile")),
    "foreign-certificate": (
        lambda secured: secured.over("MUTUAL", ssl_certfile=str(secured.foreign.both)),
        ("does not accept our certificate", "kafka.ssl_certfile"),
    ),
    "wrong-plain": (lambda secured: secured.sasl("PLAIN", password="wr0ng-s3cret"), ("alice", "kafka.sasl_password")),
    "wrong-scram": (
        lambda secured: secured.sasl("SCRAM-SHA-256", password="wr0ng-s3cret"),
        ("alice", "kafka.sasl_password"),
    ),
    "unknown-user": (
        lambda secured: secured.sasl("SCRAM-SHA-512", user="nobody"),
        ("nobody", "kafka.sasl_username"),
    ),
    "no-sasl-there": (
        lambda secured: secured.sasl("PLAIN") | {"bootstrap": secured.server.address("TLS")},
        ("does not take kafka.sasl_mechanism", "PLAIN"),
    ),
    "no-acl": (lambda secured: secured.sasl("PLAIN", user="bob"), ("refuses", "ACLs")),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_each_mistake_ends_the_listener_with_a_line_that_names_it(
    secured: Secured, mariadb: MariadbServer, unique: str, mistake: str
) -> None:
    options, words = WRONG[mistake]
    source = Source(mariadb, secured.server, unique)
    source.sql(IMAGES)
    kafka = Kafka(prefix=unique, **options(secured))
    settings = source.settings.model_copy(update={"kafka": kafka})
    with pytest.raises(SettingError) as caught:
        Listener(settings, Metrics()).run(Stop())
    said = str(caught.value)
    for word in words:
        assert word in said
    assert caught.value.exit_status == 3
    assert "s3cret" not in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "first_step",
    [
        lambda kafka, source: TransactionalProducer(kafka, source.name).open(),
        lambda kafka, source: TopicReader(kafka, source.topics.state).open(),
        lambda kafka, source: ChangeConsumer(kafka, source.topics.changes, source.name).open(),
        lambda kafka, source: DeadLetters(kafka, source.topics).open(),
        lambda kafka, source: describe_broker(kafka),
        lambda kafka, source: ensure_topics(kafka, source.topics),
    ],
    ids=["producer", "reader", "consumer", "dead-letters", "inspection", "topics"],
)
def test_no_client_of_ours_waits_for_a_wrong_password_to_become_right(
    secured: Secured, mariadb: MariadbServer, unique: str, first_step: Callable[[Kafka, Source], object]
) -> None:
    source = Source(mariadb, secured.server, unique)
    wrong = Kafka(prefix=unique, **secured.sasl("SCRAM-SHA-512", password="wr0ng-s3cret"))
    with pytest.raises(SettingError, match="alice"):
        first_step(wrong, source)


def test_tls_towards_a_plain_listener_is_told_as_an_absence_that_names_the_protocol(secured: Secured) -> None:
    """A broker that closes in the middle of a handshake may as well be shutting down: waiting is right, and says what to look at."""
    plain = Kafka(**secured.over("TLS") | {"bootstrap": secured.server.bootstrap})
    with pytest.raises(BusUnreachable, match=r"kafka\.security_protocol"):
        describe_broker(plain)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"security_protocol": "SASL_SSL", "sasl_username": "a", "sasl_password": "s3cret"}, "sasl_mechanism"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "a"}, "sasl_password"),
        ({"sasl_mechanism": "PLAIN", "sasl_username": "a", "sasl_password": "s3cret"}, "sasl_mechanism"),
        ({"ssl_cafile": "/ca.pem"}, "ssl_cafile"),
        ({"security_protocol": "SSL", "ssl_keyfile": "/key.pem"}, "ssl_certfile"),
    ],
)
def test_half_a_set_of_settings_is_refused_before_anything_connects(options: Options, named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        Kafka(**options)
    assert "s3cret" not in str(caught.value)
