"""Names from other tables, as a user sees them: `pixtail run`, and a search that shows them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from encoder.tiny_clip.captions import SUBJECTS
from pixtail.app.demo.samples import make_sample
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.process import free_port
from tests.acceptance.program import Running, pixtail

TABLES = (
    "CREATE TABLE images (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, file_path VARCHAR(512), brand_id INT)",
    "CREATE TABLE brands (id INT PRIMARY KEY, name VARCHAR(64), chinese_name VARCHAR(64))",
)


def shown(api: str) -> dict[str, Any]:
    """The names in the only point; empty while there is none."""
    try:
        answer = httpx.get(f"{api}/api/v1/images/1", timeout=5, trust_env=False)
    except httpx.TransportError:
        return {}
    payload = answer.json().get("payload", {}) if answer.is_success else {}
    return {name: value for name, value in payload.items() if name not in ("image_id", "file_path")}


def test_a_brands_name_is_found_with_its_pictures(
    mariadb: MariadbServer, kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    url, port = mariadb.create_database(unique), free_port()
    mariadb.execute(*TABLES, database=unique)
    sample = make_sample(tmp_path / "pictures", SUBJECTS[0], 0)
    (tmp_path / "pixtail.toml").write_text(f"""
mysql.url = "{url}"
kafka = {{ bootstrap = "{kafka.bootstrap}", prefix = "{unique}", partitions = 2 }}
pictures.root = "{tmp_path / "pictures"}"
model.name = "tiny-clip"
api.port = {port}
metrics.port = {free_port()}

[[table.lookups]]
table = "brands"
column = "brand_id"
take = {{ name = "brand_name", chinese_name = "brand_chinese_name" }}
""")
    api = f"http://127.0.0.1:{port}"
    with Running("run", cwd=tmp_path) as running:
        mariadb.execute(f"INSERT INTO images VALUES (1, '{sample.file_path}', 7)", database=unique)
        running.until(lambda: shown(api) == {"brand_id": 7}, "the point")
        mariadb.execute("INSERT INTO brands VALUES (7, 'Ford', '福特')", database=unique)
        named = {"brand_id": 7, "brand_name": "Ford", "brand_chinese_name": "福特"}
        running.until(lambda: shown(api) == named, "the names")
        mariadb.execute("UPDATE brands SET name = 'FORD'", database=unique)
        started = time.monotonic()
        running.until(lambda: shown(api).get("brand_name") == "FORD", "the new name")
        assert time.monotonic() - started < 10
        status = pixtail("status", "--json", cwd=tmp_path)
        assert status.status == 0, status.err
        (lookup,) = status.json["lookups"]
        assert (lookup["table"], lookup["topic"]) == ("brands", f"{unique}.{unique}.brands")
        assert lookup["state"]["seq"] > 0
