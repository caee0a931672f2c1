"""A private Apache Kafka 4 (KRaft): one process that is broker and controller."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import struct
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from pixtail.servers.parts import Part, fetched_folder, require
from pixtail.servers.process import HOST, ServerProcess, free_port

_ANSWER_LIMIT_S = 2
_MAX_ANSWER_BYTES = 1 << 20
_METADATA, _METADATA_VERSION = 3, 2  # version 2 is the first that names the cluster
_ONE_NODE: dict[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # How long a killed broker's next life waits for the controller, in the same process, to believe in the death; the default is 9 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "log.cleaner.dedupe.buffer.size": str(16 << 20),  # taken at start; the default is a quarter of the heap
}
_QUIET_LOG = [
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
]
_QUIET_ARCHIVE = ["-Xlog:cds=off", "-Xlog:cds+dynamic=off"]


class KafkaServer(ServerProcess):
    """One Kafka node that plays by a cluster's rules (transactions, groups, compaction); `properties` win over its own.

    Topics are never created by themselves. After resume() the broker may be fenced for a moment until its next heartbeat.
    `listeners` (name → protocol, such as `{"TLS": "SSL"}`) stand beside the plain one, whose name is BROKER; what they need is in
    `properties`. `format_arguments` are StorageTool's: `--add-scram` for the first users.
    """

    name = "kafka"

    def __init__(
        self,
        folder: Path | None = None,
        port: int = 0,
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        format_arguments: Sequence[str] = (),
    ) -> None:
        super().__init__(folder, port)
        self.properties = dict(properties or {})
        self.listeners = dict(listeners or {})
        self.format_arguments = tuple(format_arguments)
        self._listener_ports: dict[str, int] = {}

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    def address(self, listener: str) -> str:
        """`host:port` of one of `listeners`; the same over restarts. Raises `KeyError` before the first start."""
        return f"{HOST}:{self._listener_ports[listener]}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def cluster_id(self) -> str:
        """As formatted. Raises `FileNotFoundError` before the first start."""
        lines = (self.data / "meta.properties").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)["cluster.id"]

    def prepare(self) -> None:
        if not self.data.exists():
            self._format()
        self._write_properties(self.data)

    def command(self) -> list[str]:
        return [*_java("-Xmx512m", *_QUIET_LOG, *self._class_data()), "kafka.Kafka", str(self._properties_file)]

    def answers(self) -> bool:
        """A broker that is up and unfenced counts itself among the cluster's brokers."""
        try:
            brokers, cluster_id = ask_metadata(self.port)
        except (OSError, struct.error):
            return False
        return brokers > 0 and cluster_id == self.cluster_id

    def _class_data(self) -> list[str]:
        """Java reads thousands of classes from the archive in half the time. One that does not fit this Java is ignored by it."""
        archive = class_archive()
        return [f"-XX:SharedArchiveFile={archive}", *_QUIET_ARCHIVE] if os.access(archive, os.R_OK) else []

    @property
    def _properties_file(self) -> Path:
        return self.folder / "server.properties"

    def _format(self) -> None:
        fresh = self.folder / "data.new"  # renamed when complete: a killed format never looks like data
        shutil.rmtree(fresh, ignore_errors=True)
        self._write_properties(fresh)
        tool = [*_java("-XX:TieredStopAtLevel=1", *_QUIET_LOG), "kafka.tools.StorageTool", "format"]
        identity = ["-t", new_cluster_id(), "-c", str(self._properties_file)]
        self.run_tool([*tool, *identity, *self.format_arguments])
        fresh.rename(self.data)

    def _write_properties(self, data: Path) -> None:
        controller = free_port()  # nobody outside the process needs it, so it may change at each start
        self._listener_ports = {name: self._listener_ports.get(name) or free_port() for name in self.listeners}
        protocols = [_ONE_NODE["listener.security.protocol.map"], *(f"{n}:{p}" for n, p in self.listeners.items())]
        brokers = [f"BROKER://{self.bootstrap}", *(f"{name}://{self.address(name)}" for name in self.listeners)]
        settings = _ONE_NODE | {
            "listener.security.protocol.map": ",".join(protocols),
            "listeners": ",".join([*brokers, f"CONTROLLER://{HOST}:{controller}"]),
            "advertised.listeners": ",".join(brokers),
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "log.dirs": str(data),
        }
        lines = [f"{name}={value}\n" for name, value in (settings | self.properties).items()]
        self._properties_file.write_text("".join(lines))


class _Rehearsal(KafkaServer):
    """A Kafka that writes down, when it ends, which classes it needed."""

    def _class_data(self) -> list[str]:
        return [f"-XX:ArchiveClassesAtExit={_fresh_archive()}", *_QUIET_ARCHIVE]


def class_archive() -> Path:
    """The classes that a starting broker loads, as Java's class data sharing wants them. Only a matter of speed."""
    return fetched_folder(Part.KAFKA) / "classes.jsa"


def make_class_archive() -> None:
    """Starts and stops a broker to make the archive, unless it is there. Raises `ServerDied` when the broker does not start."""
    if class_archive().exists():
        return
    with _Rehearsal():
        pass
    if _fresh_archive().exists():
        _fresh_archive().rename(class_archive())


def _fresh_archive() -> Path:
    return class_archive().with_suffix(".new")


def new_cluster_id() -> str:
    """22 characters as `StorageTool random-uuid` makes them. A leading dash would look like an option."""
    return next(text for text in iter(_random_id, "") if not text.startswith("-"))


def ask_metadata(port: int) -> tuple[int, str]:
    """How many brokers the one on `port` knows, and its cluster's id: a Metadata request for no topics, by hand.

    By hand because only `pixtail.bus` may import a Kafka client. Layout: https://kafka.apache.org/protocol (header 1, Metadata 2).
    Raises `OSError` or `struct.error` when there is no broker or it answers something else.
    """
    client = b"pixtail-probe"
    request = struct.pack(">hhih", _METADATA, _METADATA_VERSION, 1, len(client)) + client + struct.pack(">i", 0)
    with socket.create_connection((HOST, port), _ANSWER_LIMIT_S) as connection, connection.makefile("rb") as answer:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", answer.read(4))
        return parse_metadata(answer.read(min(max(size, 0), _MAX_ANSWER_BYTES)))


def parse_metadata(body: bytes) -> tuple[int, str]:
    """Number of brokers and cluster id in a Metadata response of version 2. Raises `struct.error` when it is cut short."""
    (brokers,) = struct.unpack_from(">i", body, 4)
    offset = 8
    for _ in range(brokers):
        offset = _after_string(body, offset + 4) + 4  # node id, host, port
        offset = _after_string(body, offset)  # rack
    end = _after_string(body, offset)
    return brokers, body[offset + 2 : end].decode(errors="replace")


def _after_string(body: bytes, offset: int) -> int:
    (length,) = struct.unpack_from(">h", body, offset)
    return offset + 2 + max(int(length), 0)  # -1: null


def _random_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def _java(*options: str) -> list[str]:
    jars = require(Part.KAFKA)
    # The serial collector has the smallest footprint, and is quick enough for half a gigabyte.
    return [str(require(Part.JAVA)), "-XX:+UseSerialGC", *options, "-cp", f"{jars}/*"]
