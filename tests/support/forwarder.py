"""A TCP forwarder on 127.0.0.1: the one address of servers that take each other's place, and an ear on the wire."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from pixtail.servers.process import HOST

_PIECE = 1 << 16


class Forwarder:
    """Passes connections on to `target`, a port, as it is when they come; none if it is 0. `heard` is all that was sent to clients."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.heard = bytearray()
        self._listener = socket.create_server((HOST, 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="forwarder", daemon=True)]

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def switch(self, target: int) -> None:
        """From now on to another server; those who are connected are cut off."""
        self.target = target
        self._cut()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection((HOST, self.target))
        except OSError:
            client.close()
            return
        self._open += [client, server]
        for source, sink, ear in ((client, server, None), (server, client, self.heard)):
            thread = threading.Thread(target=_pass_on, args=(source, sink, ear), name="forwarder", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _cut(self) -> None:
        while self._open:
            _end(self._open.pop())

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self._listener)
        self._cut()
        for thread in self._threads:
            thread.join()


def _pass_on(source: socket.socket, sink: socket.socket, ear: bytearray | None) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            if ear is not None:
                ear += piece
            sink.sendall(piece)
    _end(sink)
    _end(source)


def _end(end: socket.socket) -> None:
    """Closing alone does not wake a thread that reads from it."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
