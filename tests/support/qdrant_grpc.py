"""qdrant-client's local mode behind Qdrant's gRPC interface: the wire format is real, the engine is the client's own."""

# ruff: noqa: N802 - the methods are called as in the gRPC interface

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from qdrant_client import grpc as q
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc, grpc_to_payload, payload_to_grpc
from qdrant_client.http.exceptions import UnexpectedResponse

DONE = q.PointsOperationResponse(result=q.UpdateResult(operation_id=1, status=q.UpdateStatus.Completed))


class GrpcServer:
    """Serves `client` on one port of 127.0.0.1 (`port` 0: a free one), by TLS if there are `credentials`; `url` is what a user would set,
    one port below. `moods`: how it misbehaves."""

    def __init__(self, client: Any, *, port: int = 0, credentials: Any = None, moods: Moods | None = None) -> None:
        interceptors = [moods] if moods else []
        options = [("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(4), interceptors=interceptors, options=options)
        q.add_QdrantServicer_to_server(_Root(client), self._server)
        q.add_CollectionsServicer_to_server(_Collections(client), self._server)
        q.add_PointsServicer_to_server(_Points(client), self._server)
        address = f"127.0.0.1:{port}"
        if credentials:
            self.port = self._server.add_secure_port(address, credentials)
        else:
            self.port = self._server.add_insecure_port(address)
        self._server.start()
        self.url = f"{'https' if credentials else 'http'}://127.0.0.1:{self.port - 1}"

    def close(self) -> None:
        self._server.stop(0).wait()


class Moods(grpc.ServerInterceptor):  # type: ignore[misc]
    """Answers the next requests with the codes (and trailing metadata) in `trouble` instead; wants `key`, if there is one. `asked`
    counts the requests that were about points."""

    def __init__(self, key: str | None = None) -> None:
        self.key = key
        self.trouble: list[tuple[grpc.StatusCode, dict[str, str]]] = []
        self.asked = 0

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        if self.key is not None and dict(details.invocation_metadata).get("api-key") != self.key:
            return _refusal(grpc.StatusCode.UNAUTHENTICATED, {})
        if "/qdrant.Points/" not in details.method:
            return continuation(details)
        self.asked += 1
        return _refusal(*self.trouble.pop(0)) if self.trouble else continuation(details)


def _refusal(code: grpc.StatusCode, trailing: dict[str, str]) -> Any:
    def refuse(_request: Any, context: Any) -> Any:
        context.set_trailing_metadata(tuple(trailing.items()))
        context.abort(code, "because")

    return grpc.unary_unary_rpc_method_handler(refuse)


def _found(context: Any, ask: Any) -> Any:
    try:
        return ask()
    except UnexpectedResponse as error:
        context.abort(grpc.StatusCode.NOT_FOUND, str(error))


class _Root(q.QdrantServicer):
    def __init__(self, client: Any) -> None:
        self._client = client

    def HealthCheck(self, request: Any, context: Any) -> Any:
        return q.HealthCheckReply(title="qdrant", version=self._client.info().version)


class _Collections(q.CollectionsServicer):
    def __init__(self, client: Any) -> None:
        self._client = client

    def Get(self, request: Any, context: Any) -> Any:
        info = _found(context, lambda: self._client.get_collection(request.collection_name))
        return q.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    def Create(self, request: Any, context: Any) -> Any:
        vectors = GrpcToRest.convert_vectors_config(request.vectors_config)
        metadata = grpc_to_payload(request.metadata)
        created = self._client.create_collection(request.collection_name, vectors, metadata=metadata or None)
        return q.CollectionOperationResponse(result=created)

    def List(self, request: Any, context: Any) -> Any:
        names = [one.name for one in self._client.get_collections().collections]
        return q.ListCollectionsResponse(collections=[q.CollectionDescription(name=name) for name in names])

    def ListAliases(self, request: Any, context: Any) -> Any:
        return q.ListAliasesResponse(
            aliases=[RestToGrpc.convert_alias_description(one) for one in self._client.get_aliases().aliases]
        )

    def Delete(self, request: Any, context: Any) -> Any:
        return q.CollectionOperationResponse(result=self._client.delete_collection(request.collection_name))

    def Update(self, request: Any, context: Any) -> Any:
        config = GrpcToRest.convert_optimizers_config_diff(request.optimizers_config)
        _found(context, lambda: self._client.update_collection(request.collection_name, config))
        return q.CollectionOperationResponse(result=True)

    def UpdateAliases(self, request: Any, context: Any) -> Any:
        actions = [GrpcToRest.convert_alias_operations(action) for action in request.actions]
        return q.CollectionOperationResponse(result=self._client.update_collection_aliases(actions))


class _Points(q.PointsServicer):
    def __init__(self, client: Any) -> None:
        self._client = client

    def UpdateBatch(self, request: Any, context: Any) -> Any:
        todo = [GrpcToRest.convert_points_update_operation(one) for one in request.operations]
        assert request.wait, "a write is durable when the call returns"
        _found(context, lambda: self._client.batch_update_points(request.collection_name, todo))
        return q.UpdateBatchResponse(result=[DONE.result] * len(todo))

    def Delete(self, request: Any, context: Any) -> Any:
        selector = GrpcToRest.convert_points_selector(request.points)
        _found(context, lambda: self._client.delete(request.collection_name, selector))
        return DONE

    def CreateFieldIndex(self, request: Any, context: Any) -> Any:
        kind = q.FieldType.Name(request.field_type).removeprefix("FieldType").lower()
        self._client.create_payload_index(request.collection_name, request.field_name, kind)
        return DONE

    def Get(self, request: Any, context: Any) -> Any:
        ids = [GrpcToRest.convert_point_id(one) for one in request.ids]
        payload = GrpcToRest.convert_with_payload_interface(request.with_payload)
        vectors = GrpcToRest.convert_with_vectors_selector(request.with_vectors)
        records = _found(context, lambda: self._client.retrieve(request.collection_name, ids, payload, vectors))
        return q.GetResponse(result=[RestToGrpc.convert_record(record) for record in records])

    def Scroll(self, request: Any, context: Any) -> Any:
        records, following = _found(
            context,
            lambda: self._client.scroll(
                request.collection_name,
                limit=request.limit,
                offset=GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None,
                with_payload=GrpcToRest.convert_with_payload_interface(request.with_payload),
                with_vectors=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
            ),
        )
        return q.ScrollResponse(
            result=[RestToGrpc.convert_record(record) for record in records],
            next_page_offset=None if following is None else RestToGrpc.convert_extended_point_id(following),
        )

    def Query(self, request: Any, context: Any) -> Any:
        answer = _found(
            context,
            lambda: self._client.query_points(
                request.collection_name,
                GrpcToRest.convert_query(request.query),
                query_filter=GrpcToRest.convert_filter(request.filter),
                limit=request.limit,
                offset=request.offset,
                score_threshold=request.score_threshold if request.HasField("score_threshold") else None,
                with_payload=GrpcToRest.convert_with_payload_interface(request.with_payload),
            ),
        )
        hits = [
            q.ScoredPoint(
                id=RestToGrpc.convert_extended_point_id(p.id), payload=payload_to_grpc(p.payload), score=p.score
            )
            for p in answer.points
        ]
        return q.QueryResponse(result=hits)

    def Count(self, request: Any, context: Any) -> Any:
        counted = _found(context, lambda: self._client.count(request.collection_name))
        return q.CountResponse(result=q.CountResult(count=counted.count))
