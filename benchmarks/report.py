"""How a benchmark that has one figure of each kind shows them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table


def report(figures: Mapping[str, object]) -> None:
    """A line of JSON, and a table."""
    sys.stdout.write(json.dumps(dict(figures)) + "\n")
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)
