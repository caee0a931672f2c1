"""The documentation names what exists, and all of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, SecretStr

from pixtail.core.errors import Reason
from pixtail.core.metrics import Metrics
from pixtail.core.settings import ALIASES, Settings
from tests.support.dashboard import RULES

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), DOCS.parent / "CHANGELOG.md"]
OPERATIONS = (DOCS / "operations.md").read_text()
SETTINGS = (DOCS / "settings.md").read_text()
SERIES = {"counter": "_total", "histogram": "", "gauge": ""}


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, formatting marks included."""
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| `")
    ]


def shown(default: Any) -> str:
    """A default as the page writes it."""
    if default is None:
        return "unset"
    if isinstance(default, SecretStr):
        return f"`{default.get_secret_value()}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, dict):
        pairs = ", ".join(f'{name} = "{value}"' for name, value in default.items())
        return f"`{{{pairs}}}`" if default else "empty"
    return f"`{default}`" if default != () else "empty"


def defaults() -> dict[str, str]:
    """Every setting, `section.field`, with its default."""
    found: dict[str, str] = {}
    for section, section_field in Settings.model_fields.items():
        model = section_field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        found |= {f"{section}.{name}": shown(field.default) for name, field in model.model_fields.items()}
    return found


def test_every_setting_stands_in_the_table_with_its_default_and_no_other() -> None:
    documented = {cells[0].strip("`"): cells[1] for cells in rows(SETTINGS) if "." in cells[0]}
    assert documented == defaults()


def test_every_variable_of_the_upload_app_stands_in_the_table() -> None:
    documented = {
        cells[0].strip("`"): cells[1].split()[0].strip("`") for cells in rows(SETTINGS) if cells[0][1].isupper()
    }
    assert documented == {name: ".".join(setting) for name, setting in ALIASES.items()}


def test_every_metric_stands_in_the_table_with_its_labels_and_no_other() -> None:
    documented = {
        cells[0].strip("`"): set(re.findall(r"`(\w+)`", cells[1]))
        for cells in rows(OPERATIONS)
        if cells[0].startswith("`pixtail_")
    }
    metrics = Metrics()
    labels = {m._name: set(m._labelnames) for m in vars(metrics).values() if hasattr(m, "_labelnames")}
    families = {m.name: m.name + SERIES[m.type] for m in metrics.registry.collect()}
    assert documented == {series: labels[name] for name, series in families.items()}


def test_every_alert_has_a_section_that_says_what_to_do() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert set(re.findall(r"^### (Pixtail\w+)$", OPERATIONS, re.MULTILINE)) == alerts


def test_every_reason_of_a_dead_letter_has_advice() -> None:
    advised = {reason for cells in rows(OPERATIONS) for reason in re.findall(r"`(\w+)`", cells[0])}
    assert set(Reason) <= advised


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()) if "://" not in link]
    assert [target for target in targets if not (page.parent / target).exists()] == []
