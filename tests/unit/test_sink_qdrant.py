"""The Qdrant adapter without a server: what it asks for, how often it tries, what it makes of errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.conversions.conversion import RestToGrpc
from qdrant_client.http.exceptions import ResponseHandlingException

from pixtail.core.errors import PixtailError, SettingError, StoreUnreachable
from pixtail.core.points import Delete, Truncate
from pixtail.core.settings import Qdrant
from sink import qdrant
from sink.points import conditions
from sink.qdrant import QdrantStore
from sink.qdrant_connection import TRIES, Connection, require_version, server
from sink.qdrant_errors import Kind, failure
from sink.qdrant_layout import INDEXING_THRESHOLD_KB, new_collection
from sink.qdrant_ledger import Ledger
from sink.qdrant_requests import in_requests, operations, search_filter, size_of, truncation
from tests.support.points import direction, set_payload, sync, upsert
from tests.support.stores import FINGERPRINT, QdrantHarness, local_qdrant, prepared

PLACE = "Qdrant at http://qdrant:6333"
LAST_ID = (1 << 64) - 1
VERSION = {"title": "qdrant", "version": "1.16.0"}
Answer = Callable[[httpx.Request], httpx.Response]


def said(status: int, error: str = "because", **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"status": {"error": error}, "time": 0}, headers=headers)


class Wire:
    """What a server answers, in order (the last one again and again), and how long the client paused between its tries."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/":
            return httpx.Response(200, json=VERSION)
        self.asked.append(f"{request.method} {request.url.path}")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def store(self) -> QdrantStore:
        transport: Any = httpx.MockTransport(self)
        connect = lambda: QdrantClient(url="http://qdrant:6333", check_compatibility=False, transport=transport)  # noqa: E731
        return QdrantStore(Connection(PLACE, connect, sleep=self.pauses.append), "images", generation=FINGERPRINT)


COUNT = httpx.Response(200, json={"status": "ok", "time": 0, "result": {"count": 3}})


# --- errors ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again_and_then_called_unreachable(status: int) -> None:
    wire = Wire(said(status, "shard is being moved"))
    with pytest.raises(StoreUnreachable) as error:
        wire.store().count()
    assert len(wire.asked) == TRIES
    assert len(wire.pauses) == TRIES - 1
    assert error.value.problem == f"cannot count {PLACE}: HTTP {status} shard is being moved"
    assert "qdrant.url" in error.value.remedy


def test_a_server_that_recovers_costs_only_a_pause() -> None:
    wire = Wire(said(503), httpx.ConnectError("refused"), COUNT)
    assert wire.store().count() == 3
    assert len(wire.pauses) == 2


def test_a_proxy_that_says_until_when_to_wait_is_asked_again() -> None:
    wire = Wire(said(429, "slow down", **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), COUNT)
    assert wire.store().count() == 3
    assert len(wire.pauses) == 1


@pytest.mark.parametrize(("asked", "paused"), [("2", 2.0), ("3600", 10.0)])
def test_the_pause_is_what_the_server_asks_for_within_reason(asked: str, paused: float) -> None:
    wire = Wire(said(429, "slow down", **{"Retry-After": asked}), COUNT)
    assert wire.store().count() == 3
    assert wire.pauses == [paused]


def test_a_full_disk_is_not_made_worse_by_more_tries() -> None:
    wire = Wire(said(507, "no space left on device"))
    with pytest.raises(StoreUnreachable, match="disk is full"):
        wire.store().count()
    assert len(wire.asked) == 1


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (400, "qdrant.collection"),
        (401, "qdrant.api_key"),
        (403, "qdrant.api_key"),
        (405, "qdrant.url"),
        (409, "qdrant.collection"),
        (413, "max_request_size_mb"),
    ],
)
def test_a_wrong_request_is_a_wrong_setting_and_not_repeated(status: int, remedy: str) -> None:
    wire = Wire(said(status))
    with pytest.raises(SettingError, match=remedy):
        wire.store().count()
    assert len(wire.asked) == 1


def test_an_answer_that_is_not_qdrants_is_no_reason_to_wait() -> None:
    wire = Wire(httpx.Response(200, text="<html>hello</html>"))
    with pytest.raises(SettingError, match=r"qdrant\.url"):
        wire.store().count()
    assert len(wire.asked) == 1


def test_error_messages_are_one_short_line() -> None:
    wire = Wire(said(400, "a\nb " + "x" * 1000))
    with pytest.raises(SettingError) as error:
        wire.store().count()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


class Rpc(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """A gRPC error as a channel raises it."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "details"

    initial_metadata = trailing_metadata = is_active = time_remaining = cancel = add_callback = None


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=str)
def test_every_grpc_code_has_a_meaning(code: grpc.StatusCode) -> None:
    assert failure(Rpc(code)).detail == f"gRPC {code.name}: details"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Rpc(grpc.StatusCode.UNAVAILABLE), Kind.TRANSIENT),
        (Rpc(grpc.StatusCode.RESOURCE_EXHAUSTED), Kind.TRANSIENT),
        (Rpc(grpc.StatusCode.DEADLINE_EXCEEDED), Kind.TRANSIENT),
        (Rpc(grpc.StatusCode.FAILED_PRECONDITION), Kind.TRANSIENT),
        (Rpc(grpc.StatusCode.UNAUTHENTICATED), Kind.FORBIDDEN),
        (Rpc(grpc.StatusCode.NOT_FOUND), Kind.MISSING),
        (Rpc(grpc.StatusCode.ALREADY_EXISTS), Kind.EXISTS),
        (Rpc(grpc.StatusCode.INVALID_ARGUMENT), Kind.REFUSED),
        (ResponseHandlingException(httpx.ReadTimeout("slow")), Kind.TRANSIENT),
        (ResourceExhaustedResponse("slow down", 5), Kind.TRANSIENT),
        (ValueError("id must be unsigned"), Kind.REFUSED),
    ],
    ids=lambda value: value.value if isinstance(value, Kind) else type(value).__name__,
)
def test_vendor_errors_are_told_apart(error: Exception, kind: Kind) -> None:
    assert failure(error).kind is kind


@pytest.mark.parametrize("version", ["1.15.5", "1.9.0", "0.11.0"])
def test_a_server_that_ignores_conditions_is_not_written_to(version: str) -> None:
    with pytest.raises(SettingError, match=r"Upgrade Qdrant to 1\.16"):
        require_version(version, PLACE)


@pytest.mark.parametrize("version", ["1.16.0", "1.20.1", "2.0.0", "dev"])
def test_a_server_that_is_new_enough_passes(version: str) -> None:
    require_version(version, PLACE)


# --- the address -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:port", "http://host:70000"])
def test_a_url_that_is_none_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(SettingError, match=r"qdrant\.url"):
        server(Qdrant(url=url))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://host:1234/", "Qdrant at http://host:1234"),
        ("localhost", "Qdrant at http://localhost:6333"),
        ("https://me:secret@host/path/", "Qdrant at https://host:6333/path"),
        ("http://[::1]:6333", "Qdrant at http://[::1]:6333"),
    ],
)
def test_the_place_is_named_without_secrets(url: str, place: str) -> None:
    assert server(Qdrant(url=url)).place == place


# --- requests ----------------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_upsert_and_one_delete_under_their_lowest_seqs() -> None:
    writes = [upsert(1, 10), Delete(5, 11), upsert(2, 20), Delete(6, 12)]
    first, second = operations(writes, {1: sync(1), 6: sync(5)})
    assert isinstance(first, models.UpsertOperation)
    assert isinstance(second, models.DeleteOperation)
    assert isinstance(first.upsert, models.PointsList)
    assert [point.id for point in first.upsert.points] == [1, 2]
    assert '"lt":10' in json.dumps(first.model_dump(mode="json"), separators=(",", ":")).replace("10.0", "10")


def test_only_what_reaches_the_lowest_seq_needs_an_operation_of_its_own() -> None:
    writes = [upsert(1, 10), upsert(2, 20), upsert(3, 30), set_payload(4, 5)]
    shapes = [list(one.model_dump(exclude_none=True)) for one in operations(writes, {2: sync(15)})]
    assert shapes == [["upsert"], ["upsert"], ["set_payload"]]


def test_every_request_can_go_by_grpc() -> None:
    payload = {"n": None, "big": (1 << 63) - 1, "x": [1.5, {"名": True}]}
    writes = [upsert(1, 1, payload), upsert((1 << 64) - 1, 2), set_payload(3, 3, payload), Delete(4, 4)]
    for one in [*operations(writes, {}), truncation(5)]:
        assert RestToGrpc.convert_update_operation(one).ByteSize() > 0
    wanted = conditions({"a": 1, "b": True, "c": 1.5, "d": None, "e f": "x"})
    assert len(RestToGrpc.convert_filter(search_filter(wanted, [1, "6c84fb90-12c4-11e1-840d-7b25c5ee775a"])).must) == 5


def test_a_version_that_slips_in_between_look_and_write_does_not_win() -> None:
    """The shared condition is seq < 10; another worker puts 15 under a point that is about to get 20."""
    harness = prepared(local_qdrant())
    mine = harness.store
    send = mine._send  # type: ignore[attr-defined]

    def slip_in(todo: Any) -> None:
        mine._send = send  # type: ignore[attr-defined]
        harness.another().apply([upsert(2, 15), upsert(3, 40)])
        send(todo)

    mine._send = slip_in  # type: ignore[attr-defined]
    applied = mine.apply([upsert(1, 10), upsert(2, 20), upsert(3, 30)])
    assert mine.versions([1, 2, 3]) == {1: sync(10), 2: sync(20), 3: sync(40)}
    assert applied.stale == {3}, "what was overtaken is told"


# --- the collection ----------------------------------------------------------------------------------------------------------


def test_of_two_tombstones_of_a_row_the_newer_stays_whatever_else_is_put_with_it() -> None:
    harness = prepared(local_qdrant())
    ledger = Ledger(harness.connection, f"{harness.alias}__{FINGERPRINT}")
    ledger.put([Delete(1, 15)])
    ledger.put([Delete(2, 10), Delete(1, 20)])
    ledger.put([Delete(1, 17)])
    assert ledger.find([1, 2, 3]) == ({1: 20, 2: 10}, 0)


def test_a_plain_collection_of_the_aliass_name_is_written_in_place() -> None:
    harness = local_qdrant()
    harness.client.create_collection(harness.alias, models.VectorParams(size=8, distance=models.Distance.COSINE))
    harness.write_foreign(1, direction(1), {"title": "from the upload app"})
    prepared(harness).store.apply([upsert(2, 1)])
    assert harness.store.versions([1, 2]) == {1: None, 2: sync(1)}
    assert harness.client.get_aliases().aliases == []


def test_a_new_collection_is_named_after_the_model_and_found_by_the_alias() -> None:
    harness = prepared(local_qdrant())
    [alias] = harness.client.get_aliases().aliases
    assert (alias.alias_name, alias.collection_name) == (harness.alias, f"{harness.alias}__{FINGERPRINT}")


def test_a_collection_whose_alias_was_never_set_is_taken_up() -> None:
    harness = local_qdrant()
    name = f"{harness.alias}__{FINGERPRINT}"
    harness.client.create_collection(name, models.VectorParams(size=8, distance=models.Distance.COSINE))
    prepared(harness).store.apply([upsert(1, 1)])
    assert harness.client.count(name).count == 1


@pytest.mark.parametrize(
    "vectors",
    [
        {"image": models.VectorParams(size=8, distance=models.Distance.COSINE)},
        models.VectorParams(size=8, distance=models.Distance.EUCLID),
    ],
    ids=["named", "euclid"],
)
def test_a_collection_of_another_kind_is_not_adopted(vectors: Any) -> None:
    harness = local_qdrant()
    harness.client.create_collection(harness.alias, vectors)
    with pytest.raises(SettingError, match=r"qdrant\.collection"):
        prepared(harness)


def test_a_new_collection_is_laid_out_as_the_settings_say() -> None:
    chosen = new_collection(
        Qdrant(
            datatype="float16",
            quantization="scalar",
            on_disk=True,
            on_disk_payload=False,
            shard_number=3,
            replication_factor=2,
            write_consistency_factor=2,
        ),
        8,
    )
    vectors, quantization = chosen.pop("vectors_config"), chosen.pop("quantization_config")
    assert (vectors.size, vectors.datatype, vectors.on_disk, vectors.hnsw_config.on_disk) == (8, "float16", True, True)
    assert (quantization.scalar.type, quantization.scalar.always_ram) == ("int8", True)
    numbers = {"shard_number": 3, "replication_factor": 2, "write_consistency_factor": 2}
    assert chosen == {"on_disk_payload": False, **numbers}


def test_what_is_not_set_is_left_to_the_server() -> None:
    [(name, vectors)] = new_collection(Qdrant(), 8).items()
    assert name == "vectors_config"
    assert vectors.model_dump(exclude_none=True) == {"size": 8, "distance": models.Distance.COSINE}
    assert isinstance(
        new_collection(Qdrant(quantization="binary"), 8)["quantization_config"], models.BinaryQuantization
    )


def test_the_settings_reach_the_server() -> None:
    harness = prepared(local_qdrant(Qdrant(shard_number=4)))
    assert harness.client.made_with[f"{harness.alias}__{FINGERPRINT}"]["shard_number"] == 4


# --- payload indexes and bulk loads ------------------------------------------------------------------------------------------


def indexes_of(harness: QdrantHarness) -> dict[str, str]:
    found: dict[str, str] = harness.client.indexes[f"{harness.alias}__{FINGERPRINT}"]
    return found


def test_the_version_and_the_columns_with_a_type_are_indexed_before_the_first_write() -> None:
    harness = prepared(local_qdrant(Qdrant.model_validate({"indexes": {"category": "keyword", "名 x": "integer"}})))
    assert indexes_of(harness) == {"_sync.seq": "integer", "category": "keyword", '"名 x"': "integer"}


def test_the_first_value_of_a_column_tells_the_type_of_its_index() -> None:
    names = ["text", "whole", "real", "yes", "tags", "big", "object", "never"]
    harness = prepared(local_qdrant(Qdrant.model_validate({"indexes": names})))
    assert indexes_of(harness) == {"_sync.seq": "integer"}
    values = {"text": "a", "whole": 1, "real": 1.5, "yes": True, "tags": ["a"], "big": 1 << 63, "object": {"a": 1}}
    harness.store.apply([Delete(9, 1), upsert(1, 1, {"text": None}), upsert(2, 1, values)])
    harness.store.apply([upsert(3, 2, {"text": 5})])
    told = {"text": "keyword", "whole": "integer", "real": "float", "yes": "bool", "tags": "keyword", "big": "keyword"}
    assert indexes_of(harness) == {"_sync.seq": "integer", **told}


def test_indexes_are_made_once_and_again_when_their_type_changes() -> None:
    harness = prepared(local_qdrant(Qdrant.model_validate({"indexes": {"category": "keyword", "brand": "auto"}})))
    harness.store.apply([upsert(1, 1, {"brand": "名"})])
    made: list[str] = []
    again = harness.another()
    again._index = lambda path, kind: made.append(f"{path} {kind}")  # type: ignore[attr-defined]
    again.prepare(8, FINGERPRINT)
    again.apply([upsert(2, 1, {"brand": "名"})])
    assert made == []
    harness.settings = Qdrant.model_validate({"indexes": {"category": "text"}})
    prepared(harness).another().prepare(8, FINGERPRINT)
    assert indexes_of(harness)["category"] == "text"


def test_a_bulk_load_builds_no_graph_and_puts_back_what_was_set() -> None:
    harness = prepared(local_qdrant())
    collection, thresholds = f"{harness.alias}__{FINGERPRINT}", harness.client.thresholds_kb
    thresholds[collection] = 5_000
    harness.store.begin_bulk()
    assert thresholds[collection] == 0
    assert harness.store.end_bulk() is False, "it has only begun to build"
    assert thresholds[collection] == 5_000
    assert harness.store.end_bulk() is True


def test_a_bulk_load_of_a_process_that_died_is_ended_by_another() -> None:
    harness = prepared(local_qdrant())
    harness.store.begin_bulk()
    another = harness.another()
    another.begin_bulk()
    while not another.end_bulk():
        pass
    assert harness.client.thresholds_kb == {f"{harness.alias}__{FINGERPRINT}": INDEXING_THRESHOLD_KB}


@pytest.mark.parametrize("status", ["yellow", "grey"])
def test_a_bulk_load_has_not_ended_while_the_server_is_building(status: str) -> None:
    harness = prepared(local_qdrant())
    describe, states = harness.client.get_collection, [status, "green"]

    def building(name: str) -> Any:
        info = describe(name)
        info.status = models.CollectionStatus(states.pop(0))
        return info

    harness.client.get_collection = building
    assert [harness.store.end_bulk(), harness.store.end_bulk()] == [False, True]


def test_a_server_that_cannot_build_says_so() -> None:
    harness = prepared(local_qdrant())
    describe = harness.client.get_collection

    def broken(name: str) -> Any:
        info = describe(name)
        info.optimizer_status = models.OptimizersStatusOneOf1(error="no space left")
        return info

    harness.client.get_collection = broken
    with pytest.raises(StoreUnreachable, match="no space left"):
        harness.store.end_bulk()


# --- the size of requests ----------------------------------------------------------------------------------------------------

SCALARS = (
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False) | st.text(max_size=40)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


class Weighed(Wire):
    """Remembers the size of what it is sent."""

    def __init__(self) -> None:
        super().__init__(httpx.Response(200, json={"status": "ok", "time": 0, "result": []}))
        self.sizes: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.sizes.append(len(request.content))
        return super().__call__(request)


@settings(deadline=None)
@given(
    st.dictionaries(st.text(), VALUES, max_size=6), st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False))
)
def test_a_request_is_never_larger_than_estimated(payload: dict[str, Any], vector: list[float]) -> None:
    wire = Weighed()
    writes = [upsert(1, 1, payload, np.array(vector, np.float32)), set_payload(LAST_ID, 2, payload), Delete(2, 3)]
    wire.store()._send(operations(writes, {}))
    assert wire.sizes[-1] <= sum(map(size_of, writes))


def test_writes_that_are_too_large_for_one_request_go_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = prepared(local_qdrant())
    monkeypatch.setattr(qdrant, "in_requests", partial(in_requests, max_bytes=10_000))
    sent: list[int] = []
    batch = harness.client.batch_update_points

    def counted(name: str, todo: Any, **options: Any) -> Any:
        sent.append(sum(len(one.model_dump_json()) for one in todo))
        return batch(name, todo, **options)

    harness.client.batch_update_points = counted
    writes = [upsert(i, 1, {"title": "字" * 300}) for i in range(30)] + [upsert(99, 1, {"title": "x" * 20_000})]
    assert harness.store.apply(writes).written == 31
    assert harness.store.count() == 31
    assert [size > 10_000 for size in sent] == [False] * (len(sent) - 1) + [True], "one row alone is sent as it is"
    assert len(sent) > 3
    assert list(in_requests(Truncate(1))) == [Truncate(1)]


def test_errors_are_all_of_the_one_tree() -> None:
    for answer in (said(400), said(503), said(401), said(404), httpx.ReadTimeout("slow")):
        with pytest.raises(PixtailError):
            Wire(answer).store().prepare(8, FINGERPRINT)
