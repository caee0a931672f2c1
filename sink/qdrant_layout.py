"""How a collection lies on a Qdrant server: what the settings say of a new one, and which columns have an index. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdrant_client import models

from pixtail.core.settings import Qdrant
from sink.indexes import typed_paths
from sink.points import SEQ_PATH

INDEXING_THRESHOLD_KB = 20_000
"""From which size on a segment gets its graph, if nobody set anything else: Qdrant's own default."""


def new_collection(settings: Qdrant, dimension: int) -> dict[str, Any]:
    """The arguments of `create_collection` besides the name. What is unset is left to the server."""
    vectors = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
    if settings.datatype != "float32":
        vectors.datatype = models.Datatype(settings.datatype)
    if settings.on_disk:
        vectors.on_disk = True
        vectors.hnsw_config = models.HnswConfigDiff(on_disk=True)
    chosen = {
        "quantization_config": _quantization(settings),
        "on_disk_payload": settings.on_disk_payload,
        "shard_number": settings.shard_number,
        "replication_factor": settings.replication_factor,
        "write_consistency_factor": settings.write_consistency_factor,
    }
    return {"vectors_config": vectors, **{name: value for name, value in chosen.items() if value is not None}}


def _quantization(settings: Qdrant) -> models.QuantizationConfig | None:
    """The small copies stay in memory: that is what they are for when the vectors themselves do not."""
    match settings.quantization:
        case "scalar":
            int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
            return models.ScalarQuantization(scalar=int8)
        case "binary":
            return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
        case "none":
            return None


def wanted_indexes(settings: Qdrant) -> dict[str, str]:
    """JSON path → type, of those whose type is known: the version's, which every write asks for, and the columns'."""
    return {SEQ_PATH: "integer", **typed_paths(settings.indexes)}


def missing_indexes(wanted: Mapping[str, str], present: Mapping[str, models.PayloadIndexInfo]) -> dict[str, str]:
    """Those that are not there, or are of another type."""
    return {path: kind for path, kind in wanted.items() if path not in present or present[path].data_type != kind}
