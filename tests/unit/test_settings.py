"""The settings: where values come from, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pixtail.core.errors import SettingError
from pixtail.core.settings import Lookup, Qdrant, load


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pixtail.toml and no variable of the developer's reaches these tests."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "QDRANT_URL",
        "QDRANT_COLLECTION",
        "CLIP_MODEL",
        "CLIP_REFERENCE_PROJECT",
        "BATCH_SIZE",
        "BATCH_DELAY",
    ):
        monkeypatch.delenv(name, raising=False)


def written(text: str) -> Path:
    path = Path("settings.toml")
    path.write_text(text)
    return path


def test_without_any_setting_the_defaults_hold() -> None:
    settings = load()
    assert (settings.table.name, settings.table.picture, settings.model.batch) == ("images", "file_path", 16)
    assert settings.source == "app.images"


def test_the_environment_outranks_the_file_field_by_field(monkeypatch: pytest.MonkeyPatch) -> None:
    path = written('[api]\nport = 1\nhost = "0.0.0.0"\n[table]\nname = "pictures"')
    monkeypatch.setenv("PIXTAIL_API__PORT", "2")
    settings = load(path)
    assert (settings.api.port, settings.api.host, settings.table.name) == (2, "0.0.0.0", "pictures")


def test_a_pixtail_toml_in_the_folder_is_found() -> None:
    Path("pixtail.toml").write_text('[table]\nname = "here"')
    assert load().table.name == "here"


def test_the_upload_apps_own_names_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "QDRANT_URL": "http://q:6333",
        "QDRANT_COLLECTION": "car_images",
        "CLIP_MODEL": "openai/clip-vit-large-patch14",
        "BATCH_SIZE": "8",
        "BATCH_DELAY": "100",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert (settings.qdrant.url, settings.qdrant.collection) == ("http://q:6333", "car_images")
    assert (settings.model.name, settings.model.batch, settings.model.max_wait_ms) == (
        "openai/clip-vit-large-patch14",
        8,
        100,
    )


def test_a_local_model_folder_outranks_the_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_MODEL", "openai/clip-vit-base-patch32")
    monkeypatch.setenv("CLIP_REFERENCE_PROJECT", "./models/clip")
    assert load().model.name == "./models/clip"


def test_the_programs_own_names_outrank_the_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_COLLECTION", "theirs")
    monkeypatch.setenv("PIXTAIL_QDRANT__COLLECTION", "ours")
    assert load().qdrant.collection == "ours"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tabel]\nname = 'x'", ["tabel", "settings.toml", "table"]),
        ("[table]\nnam = 'x'", ["table.nam", "settings.toml", "picture"]),
        ("[api]\nport = 99999", ["api.port", "settings.toml", "65535"]),
        ("[mysql]\nurl = 'mysql://root@localhost'", ["mysql.url", "mysql://user:password@host:3306/database"]),
        ("[mysql]\nurl = 'http://user:s3cret@h/db'", ["mysql.url"]),
        ("nonsense", ["settings.toml", "TOML"]),
        ("[kafka]\nprefix = 'a b'", ["kafka.prefix"]),
        ("[table]\npicture = ''", ["table.picture"]),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(text: str, words: list[str]) -> None:
    with pytest.raises(SettingError) as caught:
        load(written(text))
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert "\n" not in message
    assert "s3cret" not in message


@pytest.mark.parametrize("name", ["PIXTAIL_TABEL__NAME", "PIXTAIL_TABLE__NAM"])
def test_an_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(SettingError, match="unknown setting"):
        load()


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXTAIL_API__PORT", "many")
    with pytest.raises(SettingError, match="PIXTAIL_API__PORT"):
        load()


def test_a_missing_file_is_an_error_only_when_it_was_named() -> None:
    load()
    with pytest.raises(SettingError, match=r"nowhere\.toml does not exist"):
        load(Path("nowhere.toml"))


def test_secrets_show_nowhere() -> None:
    settings = load(
        written('[mysql]\nurl = "mysql://me:s3cret@h:1/db"\n[qdrant]\napi_key = "k3y"\n[api]\ntoken = "t0ken"')
    )
    shown = f"{settings} {settings!r} {settings.mysql.address} {settings.mysql.address!r} {settings.model_dump_json()}"
    assert [secret for secret in ("s3cret", "k3y", "t0ken") if secret in shown] == []
    assert settings.mysql.address.password == "s3cret"


def test_a_mysql_url_is_taken_apart() -> None:
    settings = load(
        written('[mysql]\nurl = "mysql://me%40x:p%2Fw@db.example:3307/shop?ssl_mode=REQUIRED&ssl_ca=/ca.pem"')
    )
    address = settings.mysql.address
    assert (address.user, address.password, address.host, address.port) == ("me@x", "p/w", "db.example", 3307)
    assert (address.database, dict(address.options)) == ("shop", {"ssl_mode": "REQUIRED", "ssl_ca": "/ca.pem"})


def test_two_sources_get_different_server_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load().server_id
    monkeypatch.setenv("PIXTAIL_TABLE__NAME", "others")
    assert load().server_id != first
    assert 1_000_000_000 <= first < 1 << 32
    monkeypatch.setenv("PIXTAIL_MYSQL__SERVER_ID", "77")
    assert load().server_id == 77


def test_indexes_are_a_list_of_columns_or_say_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Qdrant.model_validate({"indexes": ["category", "brand_id"]}).indexes == {
        "category": "auto",
        "brand_id": "auto",
    }
    assert Qdrant.model_validate({"indexes": {"category": "keyword"}}).indexes == {"category": "keyword"}
    monkeypatch.setenv("PIXTAIL_QDRANT__INDEXES", '["category"]')
    assert load().qdrant.indexes == {"category": "auto"}
    with pytest.raises(ValidationError, match="indexes"):
        Qdrant.model_validate({"indexes": {"category": "colour"}})


def test_a_key_needs_its_certificate() -> None:
    with pytest.raises(ValidationError, match="ssl_keyfile needs ssl_certfile"):
        Qdrant.model_validate({"ssl_keyfile": "key.pem"})


LOOKUP = """
[[table.lookups]]
table = "brands"
column = "brand_id"
take = { name = "brand_name", chinese_name = "brand_chinese_name" }
"""


def test_each_table_that_is_looked_up_is_followed_once_as_a_replica_of_its_own() -> None:
    again = LOOKUP.replace("brand_id", "maker_id").replace("brand_", "maker_")
    models = LOOKUP.replace("brands", "models").replace("brand_", "model_") + 'key = "code"'
    settings = load(written(LOOKUP + again + models))
    assert [(one.source, one.table.key_columns) for one in settings.of_lookups] == [
        ("app.brands", ("id",)),
        ("app.models", ("code",)),
    ]
    assert len({settings.server_id, *(one.server_id for one in settings.of_lookups)}) == 3
    assert all(one.table.is_lookup and not one.of_lookups for one in settings.of_lookups)
    assert not settings.table.is_lookup
    assert settings.table.lookup_columns == ("brand_id", "maker_id", "model_id")


def test_the_listeners_of_lookups_take_the_ids_after_one_that_was_set() -> None:
    settings = load(written("[mysql]\nserver_id = 7" + LOOKUP))
    assert [settings.server_id, *(one.server_id for one in settings.of_lookups)] == [7, 8]


def test_lookups_can_stand_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXTAIL_TABLE__LOOKUPS", '[{"table": "m", "column": "m_id", "take": {"name": "m_name"}}]')
    assert load().table.lookups == (Lookup(table="m", column="m_id", take={"name": "m_name"}),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LOOKUP.replace("take", "tak"), ["table.lookups.0.take", "required"]),
        (LOOKUP + "kee = 'id'", ["unknown", "table.lookups.0.kee", "take"]),
        (LOOKUP.replace("{ name", "{} #"), ["table.lookups.0.take"]),
        ("[table]\nname = 'brands'" + LOOKUP, ["brands, which is the table itself"]),
        (LOOKUP + LOOKUP.replace("brand_id", "b_id").replace("brand_", "b_") + "key = 'b'", ["two keys", "id and b"]),
        (LOOKUP + LOOKUP.replace("brand_name", "x").replace("brand_c", "c"), ["twice for the same column"]),
        ("[table]\npayload = ['id', 'title']" + LOOKUP, ["brand_id, which payload leaves out"]),
        (LOOKUP.replace('"brand_name"', '"image_id"'), ["image_id, which stands in the point already"]),
        (LOOKUP.replace('"brand_name"', '"brand_id"'), ["brand_id, which stands in the point already"]),
        (LOOKUP.replace('"brand_name"', '"brand_chinese_name"'), ["brand_chinese_name, which stands in the point"]),
        ("[table]\npayload = ['brand_name', 'brand_id']" + LOOKUP, ["brand_name, which stands in the point already"]),
        (LOOKUP.replace('"brand_name"', '"_sync_x"'), ["begins with _sync"]),
        ("[table]\nrename = { brand_id = 'a\"b' }" + LOOKUP, ["quotation mark"]),
    ],
)
def test_a_lookup_that_cannot_work_is_refused_and_named(text: str, words: list[str]) -> None:
    with pytest.raises(SettingError) as caught:
        load(written(text))
    message = str(caught.value)
    assert [word for word in [*words, "settings.toml"] if word not in message] == [], message


@pytest.mark.parametrize(
    ("every", "seconds"), [("never", None), ("30s", 30), ("15m", 900), ("24h", 86_400), ("7d", 604_800)]
)
def test_how_often_to_verify_is_a_number_and_a_unit(every: str, seconds: float | None) -> None:
    assert load(written(f'[verify]\nevery = "{every}"')).verify.every_s == seconds


@pytest.mark.parametrize("every", ["", "24", "0h", "1.5h", "h", "-1d", "1w"])
def test_any_other_schedule_is_refused(every: str) -> None:
    with pytest.raises(SettingError, match=r"verify\.every"):
        load(written(f'[verify]\nevery = "{every}"'))
