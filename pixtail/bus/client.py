"""How this program reaches Kafka, and what Kafka's errors mean to it. Everything of kafka-python is translated here."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaProducer
from kafka import errors as kafka_errors

from pixtail.bus.handshake import shake_hands, tls_context
from pixtail.core.errors import BusUnreachable, Fenced, PixtailError, SettingError
from pixtail.core.settings import Kafka

T = TypeVar("T")

CONNECT_TIMEOUT_S = 8.0
REQUEST_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 2.0

_FENCED = (kafka_errors.ProducerFencedError, kafka_errors.InvalidProducerEpochError, kafka_errors.FencedInstanceIdError)
_FORBIDDEN = (kafka_errors.AuthorizationError, kafka_errors.SaslAuthenticationFailedError)
_MISCONFIGURED = (
    kafka_errors.KafkaConfigurationError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.InvalidReplicationFactorError,
    kafka_errors.InvalidSessionTimeoutError,
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
)


def client_options(kafka: Kafka) -> dict[str, Any]:
    """The options every kafka-python client shares: address, security, time-outs."""
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap.split(","),
        "security_protocol": kafka.security_protocol,
        "bootstrap_timeout_ms": int(CONNECT_TIMEOUT_S * 1000),
        "request_timeout_ms": int(REQUEST_TIMEOUT_S * 1000),
        "reconnect_backoff_max_ms": 2000,
    }
    if context := tls_context(kafka):
        options["ssl_context"] = context
    if kafka.sasl_username is not None:
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password.get_secret_value() if kafka.sasl_password else ""
    return options


@contextmanager
def translated(kafka: Kafka) -> Iterator[None]:
    """Turns kafka-python's errors into ours: `Fenced`, `SettingError` or `BusUnreachable`."""
    try:
        yield
    except kafka_errors.KafkaError as error:
        raise translate(error, kafka) from error
    except OSError as error:  # a certificate file that is missing, a name that does not resolve
        raise SettingError(
            f"Kafka at {kafka.bootstrap} cannot be used: {error}", "Check the settings under [kafka]"
        ) from error


def translate(error: kafka_errors.KafkaError, kafka: Kafka) -> PixtailError:
    """The error of ours that says the same."""
    error = _innermost(error)
    name = type(error).__name__
    if isinstance(error, _FENCED):
        return fenced()
    if isinstance(error, _FORBIDDEN):
        return SettingError(
            f"Kafka at {kafka.bootstrap} refuses this user ({name})", "Check kafka.sasl_username and its ACLs"
        )
    if isinstance(error, _MISCONFIGURED):
        return SettingError(
            f"Kafka at {kafka.bootstrap} refuses the request ({name})", "Check the settings under [kafka]"
        )
    return _unreachable(kafka, name)


def _innermost(error: kafka_errors.KafkaError) -> kafka_errors.KafkaError:
    """The producer wraps what first went wrong in a plain KafkaError."""
    cause = next((part for part in error.args if isinstance(part, kafka_errors.KafkaError)), None)
    return error if cause is None else _innermost(cause)


def fenced() -> Fenced:
    return Fenced("another listener with the same prefix and table has taken over", "Stop one of the two")


def _unreachable(kafka: Kafka, why: str) -> BusUnreachable:
    return BusUnreachable(
        f"Kafka at {kafka.bootstrap} does not answer ({why})",
        "Start it, or correct kafka.bootstrap (PIXTAIL_KAFKA__BOOTSTRAP) or kafka.security_protocol",
    )


def reach(kafka: Kafka) -> None:
    """Raises `BusUnreachable` at once if no broker of the list takes a connection: kafka-python would try for many seconds, and leak.

    Raises `SettingError` for a certificate or password that is wrong: kafka-python would try for ever.
    """
    for server in kafka.bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            shake_hands(socket.create_connection((host or server, int(port)), CONNECT_TIMEOUT_S), host, kafka)
        except (OSError, ValueError, kafka_errors.KafkaError):
            continue
        return
    raise _unreachable(kafka, "no connection")


def discard(producer: KafkaProducer | None) -> None:
    """Ends a producer without waiting for what it has not sent: its own close() waits for the broker, and gives up half closed."""
    if producer is None:
        return
    producer._sender.force_close()
    producer._sender.join(CLOSE_TIMEOUT_S)
    with suppress(kafka_errors.KafkaError):
        producer.close(timeout=0)


@contextmanager
def admin_client(kafka: Kafka) -> Iterator[KafkaAdminClient]:
    """An admin client for a few requests. Raises as `translated` does."""
    reach(kafka)
    with translated(kafka):
        client = KafkaAdminClient(**client_options(kafka))
        try:
            yield client
        finally:
            client.close()


def within(timeout_s: float, call: Callable[[], T], what: str, kafka: Kafka) -> T:
    """The result of a blocking `call`, or `BusUnreachable` after `timeout_s`.

    For calls of kafka-python that may wait for ever (commit_transaction, traps.md). The call itself cannot be interrupted: its daemon
    thread is left behind, and the client it belongs to must be closed.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True, name=what)
    thread.start()
    thread.join(timeout_s)
    if failure:
        raise failure[0]
    if thread.is_alive():
        raise BusUnreachable(
            f"Kafka at {kafka.bootstrap} did not finish: {what}, within {timeout_s:g} s", "Look at the broker's log"
        )
    return outcome[0]
