"""A broker with one way in for each kind of client: TLS, client certificates, SASL."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from pixtail.servers.kafka import KafkaServer
from tests.support.certificates import Authority

Options: TypeAlias = dict[str, Any]

PLAIN, SCRAM_256, SCRAM_512 = "pl4in-s3cret", "scr4m-256-s3cret", "scr4m-512-s3cret"
LOGINS = {"PLAIN": PLAIN, "SCRAM-SHA-256": SCRAM_256, "SCRAM-SHA-512": SCRAM_512}
_MODULE = "org.apache.kafka.common.security"


class Secured:
    """A broker with one listener for each way in, and the settings of somebody who may do everything."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.stranger = Authority(folder, "stranger-ca")
        self.shown = self.authority.pair("broker", "127.0.0.1")
        self.client = self.authority.pair("client")
        self.foreign = self.stranger.pair("foreign-client")
        scram = [f"SCRAM-SHA-256=[name=alice,password={SCRAM_256}]", f"SCRAM-SHA-512=[name=alice,password={SCRAM_512}]"]
        self.server = KafkaServer(
            properties=self._properties(),
            listeners={"TLS": "SSL", "MUTUAL": "SSL", "SASL": "SASL_SSL"},
            format_arguments=[word for user in scram for word in ("--add-scram", user)],
        )

    def _properties(self) -> dict[str, str]:
        plain = f'{_MODULE}.plain.PlainLoginModule required user_alice="{PLAIN}" user_bob="{PLAIN}";'
        scram = f"{_MODULE}.scram.ScramLoginModule required;"
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.shown.both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.certificate),
            "listener.name.mutual.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": ",".join(LOGINS),
            "listener.name.sasl.plain.sasl.jaas.config": plain,
            "listener.name.sasl.scram-sha-256.sasl.jaas.config": scram,
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": scram,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:alice;User:CN=client",
        }

    def over(self, listener: str, **options: Any) -> Options:
        tls = {"security_protocol": self.server.listeners[listener], "ssl_cafile": str(self.authority.certificate)}
        return {"bootstrap": self.server.address(listener), **tls, **options}

    def mutual(self) -> Options:
        return self.over("MUTUAL", ssl_certfile=str(self.client.certificate), ssl_keyfile=str(self.client.key))

    def sasl(self, mechanism: str, user: str = "alice", password: str | None = None) -> Options:
        right = LOGINS[mechanism] if password is None else password
        return self.over("SASL", sasl_mechanism=mechanism, sasl_username=user, sasl_password=right)
