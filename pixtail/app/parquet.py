"""Points as a Parquet file: `id`, the columns under their names, `sync`, `vector`.

A Parquet file has one type for each column, and a payload has whatever its rows had. So the points are read twice: once for the types, once
for the values. A column of several types becomes text: JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pixtail.core.errors import PixtailError
from pixtail.core.points import StoredPoint, Sync

ROWS_A_GROUP = 10_000
OWN = ("id", "sync", "vector")
"""Our own columns: one of that name in a payload gets an underline behind it."""

_JSON, _REAL = pa.large_string(), pa.float64()
_KINDS: Mapping[type, pa.DataType] = {bool: pa.bool_(), int: pa.int64(), float: _REAL, str: pa.string()}
_SYNC = pa.struct(
    [
        ("seq", pa.int64()),
        ("ref", pa.string()),
        ("model", pa.string()),
        ("at", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("format", pa.string()),
        ("bytes", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Columns:
    """What a table of some points is made of. `numbers`: all ids are integers."""

    payload: Mapping[str, pa.DataType]
    numbers: bool

    def schema(self, dimension: int | None) -> pa.Schema:
        """`dimension`: of the vectors, None without."""
        fields = [("id", pa.uint64() if self.numbers else pa.string())]
        fields += [(_name(column), kind) for column, kind in self.payload.items()]
        fields.append(("sync", _SYNC))
        if dimension is not None:
            fields.append(("vector", pa.list_(pa.float32(), dimension)))
        return pa.schema(fields)


def columns_of(points: Iterable[StoredPoint]) -> Columns:
    """Reads them all, and keeps the types."""
    kinds: dict[str, pa.DataType] = {}
    numbers = True
    for point in points:
        numbers = numbers and isinstance(point.id, int)
        for column, value in point.payload.items():
            if value is not None:
                kinds[column] = _wider(kinds.get(column), _KINDS.get(type(value), _JSON))
    return Columns(dict(sorted(kinds.items())), numbers)


def write(points: Iterator[StoredPoint], columns: Columns, file: BinaryIO) -> int:
    """How many. Memory is that of a row group. Raises `PixtailError` if the columns have changed since they were looked at."""
    first = next(points, None)
    schema = columns.schema(len(first.vector) if first is not None and first.vector is not None else None)
    points = chain(() if first is None else (first,), points)
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(points, ROWS_A_GROUP)):
            try:
                writer.write_batch(_batch(group, columns, schema))
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
                raise PixtailError(
                    f"the index has got other columns meanwhile: {error}", "Export it again, or as JSON lines"
                ) from error
            count += len(group)
    return count


def _wider(known: pa.DataType | None, found: pa.DataType) -> pa.DataType:
    if known is None or known == found:
        return found
    return _REAL if {known, found} == {_REAL, _KINDS[int]} else _JSON


def _batch(points: Sequence[StoredPoint], columns: Columns, schema: pa.Schema) -> pa.RecordBatch:
    values: list[list[Any]] = [[point.id if columns.numbers else str(point.id) for point in points]]
    values += [[_value(point.payload.get(name), kind) for point in points] for name, kind in columns.payload.items()]
    values.append([_sync(point.sync) for point in points])
    if len(values) < len(schema):
        values.append([point.vector for point in points])
    arrays = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _value(value: Any, kind: pa.DataType) -> Any:
    return orjson.dumps(value).decode() if kind == _JSON and value is not None else value


def _sync(sync: Sync | None) -> dict[str, Any] | None:
    if sync is None:
        return None
    return {"seq": sync.seq, "ref": sync.ref, "model": sync.model, "at": sync.at, **asdict(sync.facts)}


def _name(column: str) -> str:
    return f"{column}_" if column.rstrip("_") in OWN else column
