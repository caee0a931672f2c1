"""One connection to a broker made by hand, to learn what is wrong with it.

kafka-python 3.0.12 answers a wrong password, an unknown CA and a broker that is away alike: with a time-out. Only the last is worth a wait.
Layout and error codes: https://kafka.apache.org/protocol#sasl_handshake, KIP-152.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from kafka import errors as kafka_errors
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.metadata import ApiVersionsRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from pixtail.core.errors import SettingError
from pixtail.core.settings import Kafka
from pixtail.core.tls import Names, client_context, tls_problem

TLS_NAMES = Names("kafka.ssl_cafile", "kafka.ssl_certfile", "kafka.ssl_keyfile", "kafka.bootstrap")
_PIECE = 1 << 16


def tls_context(kafka: Kafka) -> ssl.SSLContext | None:
    """None without TLS. Raises `SettingError` for files that cannot be used."""
    if not kafka.security_protocol.endswith("SSL"):
        return None
    return client_context(TLS_NAMES, kafka.ssl_cafile, kafka.ssl_certfile, kafka.ssl_keyfile)


def shake_hands(connection: socket.socket, host: str, kafka: Kafka) -> None:
    """TLS and SASL as the settings say, over a fresh connection, which is closed then; nothing for PLAINTEXT.

    Raises `SettingError` for what only a person can correct; `OSError` or `KafkaError` when the broker goes away or talks nonsense.
    """
    broker = _Broker(connection, f"Kafka at {kafka.bootstrap}")
    try:
        if kafka.security_protocol != "PLAINTEXT":
            broker.secure(tls_context(kafka), host)
        if kafka.security_protocol.startswith("SASL"):
            _authenticate(broker, kafka)
    except ssl.SSLError as error:
        if problem := tls_problem(error, broker.place, TLS_NAMES):
            raise problem from error
        raise
    finally:
        broker.close()


class _Broker:
    """Questions and answers, one after the other."""

    def __init__(self, connection: socket.socket, place: str) -> None:
        self._connection = connection
        self._protocol = KafkaProtocol(client_id="pixtail")
        self.place = place

    def secure(self, context: ssl.SSLContext | None, host: str) -> None:
        """In TLS 1.3 the first answer tells whether our certificate was accepted: hence the question, which any broker answers."""
        if context is not None:
            self._connection = context.wrap_socket(self._connection, server_hostname=host)
        self.ask(ApiVersionsRequest(version=0))

    def ask(self, request: Any) -> Any:
        self._protocol.send_request(request)
        self._connection.sendall(self._protocol.send_bytes())
        while piece := self._connection.recv(_PIECE):
            for _, response in self._protocol.receive_bytes(piece):
                return response
        raise ConnectionError("the broker closed the connection")

    def close(self) -> None:
        self._connection.close()


def _authenticate(broker: _Broker, kafka: Kafka) -> None:
    offered = broker.ask(SaslHandshakeRequest(version=1, mechanism=kafka.sasl_mechanism))
    if offered.error_code:
        others = ", ".join(offered.mechanisms) or "none"
        problem = f"{broker.place} does not take kafka.sasl_mechanism {kafka.sasl_mechanism}"
        raise SettingError(problem, f"Set one that it takes: {others}")
    mechanism = get_sasl_mechanism(kafka.sasl_mechanism)(
        security_protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_plain_username=kafka.sasl_username,
        sasl_plain_password=kafka.sasl_password.get_secret_value() if kafka.sasl_password else "",
    )
    while not mechanism.is_done():
        answer = broker.ask(SaslAuthenticateRequest(version=0, auth_bytes=mechanism.auth_bytes()))
        if answer.error_code == kafka_errors.SaslAuthenticationFailedError.errno:
            raise _wrong_password(broker, kafka)
        if answer.error_code:
            raise kafka_errors.for_code(answer.error_code)()
        mechanism.receive(answer.auth_bytes)
    if not mechanism.is_authenticated():
        raise _wrong_password(broker, kafka)


def _wrong_password(broker: _Broker, kafka: Kafka) -> SettingError:
    return SettingError(
        f"{broker.place} refuses {kafka.sasl_username} (wrong user or password)",
        "Correct kafka.sasl_username and kafka.sasl_password (PIXTAIL_KAFKA__SASL_PASSWORD)",
    )
