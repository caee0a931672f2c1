"""`init` on real databases: what it proposes is what a person would have chosen, and doctor has nothing to say against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ingest.preflight import examine
from pixtail.app.init import Asker, Outcome, Wishes, init
from pixtail.core.errors import DatabaseUnreachable, SettingError, UsageError
from pixtail.core.settings import load
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.process import free_port
from pixtail.servers.sql import SqlServer
from tests.integration.doctor_kit import run_sql, running, troubles

SHOP = (
    "CREATE TABLE brands (id INT PRIMARY KEY, name VARCHAR(64) NOT NULL, chinese_name VARCHAR(64), logo_url VARCHAR(255))",
    "CREATE TABLE models (id INT PRIMARY KEY, name VARCHAR(64) NOT NULL)",
    "CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR(100), avatar VARCHAR(255))",
    "CREATE TABLE access_logs (id BIGINT PRIMARY KEY AUTO_INCREMENT, path VARCHAR(500), agent TEXT)",
    """CREATE TABLE images (
  id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, title VARCHAR(255), description TEXT, file_path VARCHAR(512) NOT NULL,
  thumb_path VARCHAR(512), category VARCHAR(64), model_id INT, brand_id INT, upload_token CHAR(32), preview MEDIUMBLOB,
  updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, deleted_at DATETIME NULL,
  FOREIGN KEY (brand_id) REFERENCES brands (id))""",
    "INSERT INTO brands VALUES (1, 'Ford', '福特', 'https://cdn.shop.example/ford.png')",
    "INSERT INTO users VALUES (1, 'a@b.example', 'avatars/1.png')",
    "INSERT INTO access_logs (path) VALUES ('/img/1.jpg'), ('/img/2.jpg'), ('/')",
    "INSERT INTO images (title, file_path, thumb_path) VALUES ('one', '2026/one.jpg', '2026/one_t.jpg'), ('two', '2026/two.png', NULL)",
)


@dataclass(slots=True)
class Scripted(Asker):
    """Answers as it was told, and remembers what it was asked."""

    answers: list[int | str]
    asked: list[str] = field(default_factory=list)

    def choose(self, question: str, choices: Sequence[str]) -> int:
        self.asked += [question, *choices]
        return int(self.answers.pop(0))

    def text(self, question: str, default: str) -> str:
        self.asked += [question, default]
        return str(self.answers.pop(0))

    def password(self, question: str) -> str:
        self.asked.append(question)
        return str(self.answers.pop(0))


@pytest.fixture
def shop(database: SqlServer, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a shop's database; we stand in an empty folder."""
    url = database.create_database(unique)
    database.execute(*SHOP, database=unique)
    monkeypatch.chdir(tmp_path)
    return url


def run(url: str, asker: Asker | None = None, **wishes: object) -> Outcome:
    return init(Wishes(url, Path("pixtail.toml"), **wishes), asker)  # type: ignore[arg-type]


def test_a_shop_is_understood(shop: str, tmp_path: Path) -> None:
    (tmp_path / "uploads" / "2026").mkdir(parents=True)
    (tmp_path / "uploads" / "2026" / "one.jpg").touch()
    found = run(shop)
    given = load(found.file, {})
    assert (given.table.name, given.table.key_columns, given.table.picture) == ("images", ("id",), "file_path")
    assert {"preview", "upload_token"} & set(given.table.payload) == set()
    assert given.pictures.root == tmp_path / "uploads"
    assert {(look.column, look.table) for look in given.table.lookups} == {
        ("brand_id", "brands"),
        ("model_id", "models"),
    }
    assert (found.statements, found.to_mend) == ([], [])
    assert found.administers
    assert troubles(examine(given).checks) == []
    assert found.next == ["pixtail doctor", "pixtail run"]


def test_nothing_is_asked_but_what_has_two_answers(shop: str) -> None:
    asker = Scripted(["https://cdn.shop.example/img/"])
    found = run(shop, asker)
    assert asker.asked[0].startswith("Folder or address that the paths start from (2026/two.png)")
    assert load(found.file, {}).pictures.base_url == "https://cdn.shop.example/img/"


def test_two_sensible_columns_are_a_question(shop: str, database: SqlServer, unique: str) -> None:
    database.execute("CREATE TABLE photos (id INT PRIMARY KEY, path VARCHAR(99))", database=unique)
    database.execute("INSERT INTO photos VALUES (1, 'x.jpg')", database=unique)
    asker = Scripted([1, "."])
    found = run(shop, asker)
    assert "Which column" in asker.asked[0]
    assert found.proposal.table == "photos"


def test_without_anybody_to_ask_the_best_guess_is_taken_and_the_rest_listed(shop: str) -> None:
    found = run(shop)
    assert found.proposal.picture == "file_path"
    assert any("thumb_path" in other for other in found.alternatives)
    assert "TO DO" in found.place.note
    assert "TO DO" in found.file.read_text()


def test_what_is_named_is_taken(shop: str) -> None:
    found = run(shop, table="brands", column="logo_url", force=True)
    assert (found.proposal.table, found.proposal.picture) == ("brands", "logo_url")
    assert "cdn.shop.example" in found.file.read_text()


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"table": "imags"}, ["no table imags", "images"]),
        ({"table": "images", "column": "photo"}, ["no text column photo", "file_path"]),
    ],
)
def test_what_is_not_there_is_said_with_what_is(shop: str, wishes: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SettingError) as caught:
        run(shop, **wishes)
    assert [word for word in words if word not in str(caught.value)] == []
    assert not Path("pixtail.toml").exists()


def test_an_account_of_its_own_can_do_the_work_once_the_statements_ran(
    shop: str, database: SqlServer, unique: str
) -> None:
    found = run(shop, account=unique)
    given = load(found.file, {})
    assert given.mysql.address.user == unique
    assert [check.name for check in examine(given).checks if not check.ok and check.made] == ["connection"]
    database.execute(*found.statements)
    try:
        assert troubles(examine(given).checks) == []
    finally:
        database.execute(f"DROP USER '{unique}'@'%'")


def test_an_account_without_the_rights_gets_the_grants(shop: str, database: SqlServer, unique: str) -> None:
    database.execute(
        f"CREATE USER '{unique}'@'%' IDENTIFIED BY 'pass'", f"GRANT SELECT ON {unique}.* TO '{unique}'@'%'"
    )
    try:
        found = run(database.url(unique, unique, "pass"))
        assert not found.administers
        assert all(
            f".`{table}` TO" in line
            for table, line in zip(("images", "models", "brands"), found.statements[1:], strict=True)
        )
        database.execute(*found.statements)
        assert troubles(examine(load(found.file, {})).checks) == []
    finally:
        database.execute(f"DROP USER '{unique}'@'%'")


def test_a_password_that_was_not_given_is_asked_for(shop: str, database: SqlServer, unique: str) -> None:
    database.execute(f"CREATE USER '{unique}'@'%' IDENTIFIED BY 'p:ss/w'", f"GRANT ALL ON *.* TO '{unique}'@'%'")
    try:
        asker = Scripted(["p:ss/w", "."])
        found = run(database.url(unique, unique), asker)
        assert "Password" in asker.asked[0]
        assert load(found.file, {}).mysql.address.password == "p:ss/w"
    finally:
        database.execute(f"DROP USER '{unique}'@'%'")


def test_the_address_can_stay_out_of_the_file(shop: str) -> None:
    found = run(shop, url_in_file=False)
    assert "mysql://root" not in found.file.read_text()
    assert found.next[0].startswith("export PIXTAIL_MYSQL__URL=")


def test_what_has_to_be_mended_is_said_at_once(unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with running(MysqlServer(extra=["--binlog-row-metadata=MINIMAL"])) as server:
        url = server.create_database(unique)
        server.execute(*SHOP, database=unique)
        found = run(url)
        assert [check.name for check in found.to_mend] == ["binlog_row_metadata"]
        run_sql(server, found.to_mend[0].remedy)
        assert run(url, force=True).to_mend == []


# Where nothing can be done


def refused(url: str, error: type[Exception], *words: str) -> None:
    with pytest.raises(error) as caught:
        run(url)
    assert [word for word in words if word not in str(caught.value)] == []
    assert len(str(caught.value).splitlines()) == 1
    assert not Path("pixtail.toml").exists()


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_empty_database_is_said(database: SqlServer, unique: str) -> None:
    refused(database.create_database(unique), SettingError, unique, "no tables")


def test_an_unknown_database_is_said(database: SqlServer, unique: str) -> None:
    refused(database.url(unique), SettingError, f"no database {unique}")


def test_a_wrong_password_is_said_and_not_repeated(database: SqlServer, unique: str) -> None:
    with pytest.raises(SettingError) as caught:
        run(database.url(unique, "root", "wr0ng"))
    assert "wr0ng" not in str(caught.value)


def test_a_server_that_is_not_there_is_said(unique: str) -> None:
    refused(f"mysql://root@127.0.0.1:{free_port()}/{unique}", DatabaseUnreachable, "does not answer")


@pytest.mark.parametrize("url", ["nonsense", "mysql://root@127.0.0.1:3306/", "postgres://a@b/c", "mysql://h:port/db"])
def test_an_address_that_is_none_is_said(url: str) -> None:
    refused(url, UsageError, "mysql://user:password@host:3306/database")


def test_a_database_without_pictures_is_said(database: SqlServer, unique: str) -> None:
    url = database.create_database(unique)
    database.execute("CREATE TABLE notes (id INT PRIMARY KEY, body TEXT)", database=unique)
    refused(url, SettingError, "notes", "--table")


def test_a_table_without_a_primary_key_is_said_with_the_statement(database: SqlServer, unique: str) -> None:
    url = database.create_database(unique)
    database.execute("CREATE TABLE images (id INT, file_path VARCHAR(99))", database=unique)
    refused(url, SettingError, "images", "no primary key", "ALTER TABLE")


def test_a_composite_key_is_written_as_a_list(database: SqlServer, unique: str) -> None:
    url = database.create_database(unique)
    database.execute(
        "CREATE TABLE images (tenant INT, n INT, file_path VARCHAR(99), PRIMARY KEY (tenant, n))", database=unique
    )
    assert load(run(url).file, {}).table.key_columns == ("tenant", "n")


def test_names_that_need_quotes_are_no_obstacle(database: SqlServer, unique: str) -> None:
    url = database.create_database(unique)
    database.execute(
        'CREATE TABLE `my ``images` (`the id` INT PRIMARY KEY, `file "path` VARCHAR(99), `100%` INT)',
        "INSERT INTO `my ``images` VALUES (1, 'a.jpg', 1)",
        database=unique,
    )
    given = load(run(url).file, {})
    assert (given.table.name, given.table.key, given.table.picture) == ("my `images", "the id", 'file "path')
    assert troubles(examine(given).checks) == []
