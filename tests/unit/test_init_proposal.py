"""Which table, which column, where the pictures are: decided from facts alone."""

from __future__ import annotations

import pytest

from pixtail.app.init_proposal import (
    Candidate,
    Column,
    Lookup,
    Proposal,
    Shape,
    TableFacts,
    candidates,
    close,
    is_picture,
    propose,
    shape_of,
    shortened,
    words,
)

PATHS = ("2026/01/a.jpg", "2026/01/b.png")


def table(name: str, *columns: Column, key: tuple[str, ...] = ("id",), rows: int = 2, **references: str) -> TableFacts:
    return TableFacts(name, (Column("id", "bigint", False), *columns), key, rows, references)


def text(name: str, *samples: str) -> Column:
    return Column(name, "varchar", True, samples)


def best(*tables: TableFacts) -> str:
    found = candidates(tables)
    return f"{found[0].table.name}.{found[0].column.name}" if found else ""


def proposal(*tables: TableFacts) -> Proposal:
    return propose(candidates(tables)[0], tables)


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ([table("images", text("title", "a car"), text("file_path", *PATHS))], "images.file_path"),
        ([table("images", text("thumb_path", *PATHS), text("path", *PATHS))], "images.path"),
        ([table("cars", text("bild", *PATHS))], "cars.bild"),
        ([table("cars", text("x17", *PATHS))], "cars.x17"),
        ([table("cars", text("imageUrl", "https://cdn.example/photo-1"))], "cars.imageUrl"),
        ([table("users", text("avatar", "a.png")), table("photos", text("path", *PATHS))], "photos.path"),
        ([table("access_log", text("path", *PATHS)), table("cars", text("path", *PATHS))], "cars.path"),
        ([table("a", text("image_path", *PATHS), key=()), table("b", text("image_path", *PATHS))], "b.image_path"),
        ([table("images", text("file_path"), text("title"), rows=0)], "images.file_path"),
        ([table("gallery", text("src"), rows=0)], "gallery.src"),
        ([table("pages", text("url", "https://shop.example/index.html"))], ""),
        ([table("pages", text("url"), rows=0)], ""),
        ([table("images", Column("file_path", "int"))], ""),
        ([table("images", text("file_path"), rows=5)], ""),
    ],
)
def test_the_column_with_the_pictures_is_found_by_values_and_name(tables: list[TableFacts], expected: str) -> None:
    assert best(*tables) == expected


def test_choices_are_close_only_when_both_are_sensible() -> None:
    def likely(*tables: TableFacts) -> int:
        return len(close(candidates(tables)))

    assert likely(table("images", text("path", *PATHS), text("thumb_path", *PATHS))) == 2
    assert likely(table("images", text("image_path", *PATHS)), table("access_log", text("path", *PATHS))) == 1
    assert likely(table("cars", text("image_path", *PATHS)), table("vans", text("image_path", *PATHS))) == 2


@pytest.mark.parametrize(
    ("value", "named", "expected"),
    [
        ("a/b.JPEG", False, True),
        ("https://x.example/a.webp?sig=1#y", False, True),
        ("https://x.example/photo-12", True, True),
        ("https://x.example/photo-12", False, False),
        ("https://x.example/page.html", True, False),
        ("jpg", True, False),
        ("http://[broken", True, False),
    ],
)
def test_what_looks_like_a_picture(value: str, named: bool, expected: bool) -> None:
    assert is_picture(value, named=named) is expected


def test_words_of_a_name_are_found_whatever_its_style() -> None:
    assert words("imageUrl") == words("image_url") == words("IMAGE-URL") == {"image", "url"}


# The rest of the table


def test_secrets_and_large_values_stay_out_of_the_points() -> None:
    found = proposal(
        table("images", text("file_path", *PATHS), text("upload_token"), Column("preview", "mediumblob"), text("title"))
    )
    assert found.payload == ("id", "file_path", "title")
    assert found.left_out == ("upload_token", "preview")


def test_a_table_without_any_has_all_its_columns_in_the_points() -> None:
    assert proposal(table("images", text("file_path", *PATHS))).payload == ()


@pytest.mark.parametrize(
    ("key", "columns", "expected"),
    [
        (("id",), [], None),
        (("uuid",), ["uuid"], {"uuid": "image_id", "id": "id"}),
        (("image_id",), ["image_id"], {"id": "id"}),
        (("id",), ["image_id"], {"id": "id"}),
        (("tenant", "n"), ["tenant", "n"], None),
    ],
)
def test_the_key_is_called_image_id_where_that_name_is_free(
    key: tuple[str, ...], columns: list[str], expected: dict[str, str] | None
) -> None:
    facts = table("images", text("file_path", *PATHS), *(Column(name, "int") for name in columns), key=key)
    assert proposal(facts).rename == expected


def test_lookups_are_found_by_foreign_key_and_by_name() -> None:
    columns = [Column(name, "int") for name in ("maker", "model_id", "category_id", "nothing_id")]
    found = proposal(
        table("images", text("file_path", *PATHS), *columns, maker="brands"),
        table("brands", text("name"), text("chinese_name"), text("note")),
        table("models", text("name")),
        table("categories", text("title")),
        table("nothing", Column("n", "int")),
    )
    assert found.lookups == (
        Lookup("maker", "brands", "id", {"name": "maker_name", "chinese_name": "maker_chinese_name"}),
        Lookup("model_id", "models", "id", {"name": "model_name"}),
        Lookup("category_id", "categories", "id", {"title": "category_title"}),
    )


def test_what_cannot_be_looked_up_is_left_out() -> None:
    columns = [Column("brand_id", "int"), text("brand_name"), Column("model_id", "int"), Column("kind_id", "blob")]
    found = proposal(
        table("images", text("file_path", *PATHS), *columns),
        table("brands", text("name")),
        table("models", text("name"), key=("tenant", "id")),
        table("kinds", text("name")),
    )
    assert found.lookups == ()


def test_a_column_that_marks_deleted_rows_is_seen() -> None:
    assert proposal(table("images", text("path", *PATHS), Column("deleted_at", "datetime"))).hidden_by == "deleted_at"
    assert proposal(table("images", text("path", *PATHS), Column("deleted", "tinyint"))).hidden_by is None


# Where they are


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ((), Shape("unknown")),
        (PATHS, Shape("relative")),
        (("/srv/up/a/1.jpg", "/srv/up/b/2.jpg", "x.jpg"), Shape("absolute", "/srv/up")),
        (("https://b.example/1.jpg", "http://a.example/1.jpg"), Shape("address", hosts=("a.example", "b.example"))),
        (("http://10.0.0.7/1.jpg",), Shape("address", hosts=("10.0.0.7",), private=True)),
        (("http://media.internal/1.jpg",), Shape("address", hosts=("media.internal",), private=True)),
        (("s3://bucket/1.jpg",), Shape("object", hosts=("bucket",))),
    ],
)
def test_the_place_is_what_most_values_share(samples: tuple[str, ...], expected: Shape) -> None:
    assert shape_of(samples) == expected


def test_an_example_shows_no_signature() -> None:
    assert shortened("https://x.example/a.jpg?Signature=abc") == "https://x.example/a.jpg"
    assert len(shortened("x" * 100)) == 60


def test_a_candidate_says_what_it_is() -> None:
    one = Candidate(table("images", text("path", *PATHS)), text("path", *PATHS), 1)
    assert str(one) == "images.path (about 2 rows, such as 2026/01/a.jpg)"
