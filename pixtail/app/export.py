"""`export`: what the index holds, as JSON lines, as a Parquet table, or as a NumPy array with JSON lines beside it."""

from __future__ import annotations

import errno
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from rich.console import Console

from pixtail.app.jobs import Show
from pixtail.app.reading import bar, conditions, watched, whole_index
from pixtail.app.wiring import needs
from pixtail.core.errors import PixtailError, UsageError
from pixtail.core.points import StoredPoint
from pixtail.core.settings import Settings

Format: TypeAlias = Literal["jsonl", "npy", "parquet"]
STDOUT = Path("-")


def export(
    settings: Settings,
    form: Format,
    output: Path,
    where: Sequence[str],
    console: Console,
    *,
    vectors: bool = True,
    force: bool = False,
) -> int:
    """Writes the points with these values to `output` (`-`: standard output), and returns how many. Files appear whole or not at all.

    Raises `UsageError` for a combination that makes no sense or a file that exists, `BrokenPipeError` when nobody reads on, `PixtailError`
    when something cannot be written, and what `whole_index` raises.
    """
    files = _files(form, output, vectors)
    for file in files:
        _refuse(file, force)
    if form == "parquet":
        with bar(console) as show, _readable_errors(output), appearing(output) as table:
            return _parquet(settings, conditions(where), vectors, show, table)
    write = _npy if form == "npy" else _jsonl
    with (
        bar(console) as show,
        whole_index(settings, conditions(where), with_vectors=vectors) as reading,
        _readable_errors(output),
        ExitStack() as stack,
    ):
        opened = [stack.enter_context(_standard_output() if file == STDOUT else appearing(file)) for file in files]
        return write(watched(reading, show, "exporting"), *opened)


def _files(form: Format, output: Path, vectors: bool) -> list[Path]:
    """What is written, the array first: it appears last, when the lines beside it are there."""
    if form == "jsonl":
        return [output]
    if output == STDOUT:
        raise UsageError(f"{form} cannot be written to standard output", f"Name a file: -o images.{form}")
    if form == "parquet":
        return [output]
    if not vectors:
        raise UsageError("--format npy is an array of the vectors, so --no-vectors leaves nothing", "Leave it out")
    return [output, output.with_suffix(".jsonl")]


def _refuse(file: Path, force: bool) -> None:
    if file == STDOUT:
        return
    if file.exists() and not force:
        raise UsageError(f"{file} exists", "Name another file with --output, or overwrite it with --force")
    if not file.parent.is_dir():
        raise UsageError(f"the folder {file.parent} does not exist", "Make it, or name another file with --output")


def _jsonl(points: Iterable[StoredPoint], file: BinaryIO) -> int:
    with needs("serve"):
        from pixtail.search.rows import to_line
    count = 0
    for point in points:
        file.write(to_line(point))
        count += 1
    return count


def _npy(points: Iterable[StoredPoint], array: BinaryIO, lines: BinaryIO) -> int:
    """Shape (n, dimension), float32; the n-th line is of the n-th row. How many there are is known at the end, so the header is written
    twice; NumPy leaves room in it for a longer number."""
    with needs("serve"):
        import numpy as np

        from pixtail.search.rows import to_line

    def header(rows: int, dimension: int) -> None:
        array.seek(0)
        shape = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
        np.lib.format.write_array_header_1_0(array, shape)

    count = dimension = 0
    header(0, dimension)
    for count, point in enumerate(points, 1):
        vector = np.asarray(point.vector, "<f4")
        if count == 1:
            dimension = len(vector)
            header(0, dimension)
        array.write(vector.tobytes())
        lines.write(to_line(replace(point, vector=None)))
    header(count, dimension)
    return count


def _parquet(settings: Settings, where: Sequence[tuple[str, str]], vectors: bool, show: Show, file: BinaryIO) -> int:
    with needs("export"):
        from pixtail.app import parquet
    with whole_index(settings, where) as reading:
        columns = parquet.columns_of(watched(reading, show, "looking at columns"))
    with whole_index(settings, where, with_vectors=vectors) as reading:
        return parquet.write(watched(reading, show, "exporting"), columns, file)


@contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the name `path` when the block ends well, and is gone otherwise."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with fresh.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    with open(sys.stdout.fileno(), "wb", closefd=False) as file:
        yield file


@contextmanager
def _readable_errors(output: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        remedy = "Free some space, or name a file elsewhere" if error.errno == errno.ENOSPC else "Name another file"
        place = "standard output" if output == STDOUT else output
        raise PixtailError(f"{place} cannot be written: {error.strerror or error}", remedy) from None
