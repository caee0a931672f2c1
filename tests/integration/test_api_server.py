"""The API behind a real uvicorn: starting, stopping, limits while reading, health under load."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore, Thread

import httpx
import pytest

from pixtail.core.errors import SettingError
from pixtail.core.lifecycle import Stop
from pixtail.core.settings import Api
from pixtail.search import ApiService, create_app
from tests.api_world import World, png, serving

POOL_THREADS = 40
"""anyio's default: so many blocking requests run at once."""


def test_a_port_in_use_is_said_in_one_line_that_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = ApiService(create_app(World().deps()), Api(port=port))
        with pytest.raises(SettingError) as caught:
            service.run(Stop())
    assert str(caught.value) == f"port {port} of 127.0.0.1 is in use. Set api.port to a free port (0 picks one)"


def test_a_host_of_another_machine_is_said_too() -> None:
    with pytest.raises(SettingError, match=r"api\.host 192\.0\.2\.1 is no address of this machine"):
        ApiService(create_app(World().deps()), Api(host="192.0.2.1", port=0)).bind()


def test_it_is_ready_while_it_serves_and_gives_the_port_back() -> None:
    service, stop = ApiService(create_app(World().deps()), Api(port=0)), Stop()
    url = service.bind()
    assert not service.ready()
    thread = Thread(target=service.run, args=(stop,), daemon=True)
    thread.start()
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    assert service.ready()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert not service.ready()
    with socket.create_server(("127.0.0.1", int(url.rsplit(":", 1)[1]))):
        pass


def test_answers_on_a_kept_connection_do_not_wait_for_delayed_acknowledgements() -> None:
    """Without TCP_NODELAY two of three such requests take 40 ms each, of which none is work."""
    with serving(World()) as url, httpx.Client(base_url=url, trust_env=False) as client:
        took = sorted(client.get("/healthz").elapsed.total_seconds() for _ in range(40))
    assert took[20] < 0.03, f"the median of {took}"


def test_an_announced_upload_above_the_limit_is_refused_before_it_is_read() -> None:
    with serving(World()) as url, socket.create_connection(_address(url), timeout=10) as connection:
        connection.sendall(
            b"POST /api/v1/search/image HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 99999999\r\n\r\n"
        )
        answer = _rest(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"urn:pixtail:problem:too-large" in answer


def test_an_upload_of_unknown_length_is_cut_off_at_the_limit() -> None:
    world = World()
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\n\r\n'
        while sent < 50 << 20:
            sent += 16384
            yield b"\0" * 16384

    with serving(world) as url, socket.create_connection(_address(url), timeout=10) as connection:
        connection.sendall(
            b"POST /api/v1/search/image HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        answer = _send_until_answered(connection, endless())
    assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
    assert b"urn:pixtail:problem:too-large" in answer
    assert sent < 50 << 20, "the server read everything"


def test_health_and_metrics_answer_while_every_thread_waits_for_the_store() -> None:
    world = World()
    world.add(1, "red")
    waiting, release = Semaphore(0), Event()
    count = world.store.count

    def hanging() -> int:
        waiting.release()
        assert release.wait(30)
        return count()

    world.store.count = hanging  # type: ignore[method-assign]
    with serving(world) as url, ThreadPoolExecutor(POOL_THREADS) as pool, client_of_many() as client:
        stats = [pool.submit(client.get, f"{url}/api/v1/stats") for _ in range(POOL_THREADS)]
        try:
            for _ in range(POOL_THREADS):
                assert waiting.acquire(timeout=30)
            assert client.get(f"{url}/healthz").status_code == 200
            assert client.get(f"{url}/metrics").status_code == 200
        finally:
            release.set()
        assert {answer.result().json()["points"] for answer in stats} == {1}


def test_a_request_in_flight_is_answered_before_the_service_stops() -> None:
    world = World()
    world.add(1, "red")
    begun, release = Event(), Event()
    encode = world.embedder.encode

    def slow(pictures: list) -> object:
        begun.set()
        assert release.wait(30)
        return encode(pictures)

    world.embedder.encode = slow  # type: ignore[method-assign]
    service, stop = ApiService(create_app(world.deps()), Api(port=0)), Stop()
    url = service.bind()
    thread = Thread(target=service.run, args=(stop,), daemon=True)
    thread.start()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{url}/api/v1/search/image", files={"file": png("red")}, timeout=30)
        assert begun.wait(30)
        stop.set()
        release.set()
        assert [hit["id"] for hit in answer.result().json()["hits"]] == [1]
    thread.join(10)
    assert not thread.is_alive()


def client_of_many() -> httpx.Client:
    """One client, since each new one reads the machine's certificates anew."""
    return httpx.Client(timeout=30, limits=httpx.Limits(max_connections=POOL_THREADS + 1))


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def _send_until_answered(connection: socket.socket, parts: Iterator[bytes]) -> bytes:
    """Sends chunks until the server has had enough; what it answered by then."""
    try:
        for part in parts:
            connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
    except (BrokenPipeError, ConnectionResetError):
        pass
    return _rest(connection)


def _rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except ConnectionResetError:
        pass
    return answer
