"""The console page in a real browser (Debian's chromium, driven by playwright)."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from pixtail.core.errors import StoreUnreachable
from pixtail.servers.parts import Part
from tests.api_world import World, png, serving
from tests.support.browser import chromium

XSS = "<img src=x onerror=\"window.broken='title'\"><script>window.broken='script'</script>"


@pytest.fixture(scope="module")  # no longer: see `chromium`
def browser(needs: Callable[[Part], Path]) -> Iterator[Browser]:
    with chromium(needs(Part.CHROMIUM)) as browser:
        yield browser


@pytest.fixture
def world() -> World:
    world = World()
    world.add(1, "red", category="car", description="A car in its garage", model_id=5)
    world.add(2, "green", category="bus")
    world.add(3, "blue", category="bus")
    world.add(4, "pink", category="car")
    return world


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with serving(world) as url:
        yield url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A page that fails its test if a script throws, or if the browser had to block something."""
    context = browser.new_context(base_url=url)
    page = context.new_page()
    page.set_default_timeout(15_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: "Content Security" in message.text and complaints.append(message.text))
    yield page
    context.close()
    assert complaints == []


def search(page: Page, text: str) -> None:
    page.get_by_label("What the picture shows").fill(text)
    page.get_by_role("button", name="Search", exact=True).click()


def expect_titles(page: Page, *titles: str) -> None:
    expect(page.locator(".card .title")).to_have_text(list(titles))


def upload(page: Page, name: str, data: bytes) -> None:
    page.locator("#file").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})


def test_a_text_shows_the_pictures_in_order_with_score_and_category(page: Page, tmp_path: Path) -> None:
    page.goto("/")
    search(page, "red")
    expect_titles(page, "red 1", "pink 4", "green 2", "blue 3")
    expect(page.locator(".card .category")).to_have_text(["car", "car", "bus", "bus"])
    expect(page.locator(".card .score").first).to_have_text("1.000")
    expect(page.locator(".card .frame.loaded")).to_have_count(4)
    expect(page.get_by_role("status")).to_contain_text("4 pictures")
    page.screenshot(path=tmp_path / "results.png")


def test_without_a_question_there_are_examples_to_click(page: Page) -> None:
    page.goto("/")
    example = page.locator("#examples button", has_text=re.compile("[\u4e00-\u9fff]")).first
    text = example.inner_text()
    example.click()
    expect(page.get_by_label("What the picture shows")).to_have_value(text)
    expect(page.locator(".card")).to_have_count(4)


def test_a_picture_to_upload_finds_its_like(page: Page) -> None:
    page.goto("/")
    upload(page, "mine.png", png("blue"))
    expect(page.locator(".card .title").first).to_have_text("blue 3")
    expect(page.locator("#sample-name")).to_have_text("mine.png")
    page.get_by_label("Remove the picture").click()
    expect(page.locator("#examples")).to_be_visible()


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_pasted_or_dropped_picture_finds_its_like(page: Page, way: str) -> None:
    page.goto("/")
    page.evaluate(
        """([way, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "mine.png", {type: "image/png"}));
            const event = way === "paste"
                ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true})
                : new DragEvent("drop", {dataTransfer: transfer, bubbles: true});
            document.body.dispatchEvent(event);
        }""",
        [way, list(png("green"))],
    )
    expect(page.locator(".card .title").first).to_have_text("green 2")


def test_an_upload_that_is_no_picture_or_too_large_says_so(page: Page, world: World) -> None:
    page.goto("/")
    expect(page.locator("#stats")).to_have_attribute("data-state", "good")
    upload(page, "broken.png", b"no picture at all")
    expect(page.locator("#message-title")).to_have_text("Unusable picture")
    expect(page.locator("#message-detail")).to_have_text("the upload is not an image")
    upload(page, "huge.png", b"\0" * (world.settings.pictures.max_bytes + 1))
    expect(page.locator("#message-title")).to_have_text("Picture too large")


def test_the_panel_shows_every_column_and_leads_to_similar_pictures(page: Page) -> None:
    page.goto("/?q=red")
    page.get_by_role("button", name="red 1").click()
    panel = page.get_by_role("dialog")
    expect(panel.get_by_role("heading", level=2)).to_have_text("red 1")
    expect(panel).to_contain_text("A car in its garage")
    expect(panel.locator("dt")).to_contain_text(["image_id", "title", "file_path", "category", "sha-256"])
    expect(panel.locator(".frame.loaded")).to_be_visible()
    panel.get_by_role("button", name="Find similar").click()
    expect(panel).to_be_hidden()
    expect_titles(page, "pink 4", "green 2", "blue 3")
    expect(page.locator("#sample-name")).to_have_text("Like red 1")
    assert page.url.endswith("/?similar=1")


def test_a_column_value_becomes_a_filter_that_can_be_removed(page: Page) -> None:
    page.goto("/?q=red")
    page.get_by_role("button", name="green 2").click()
    page.get_by_label("Only pictures with category bus").click()
    expect_titles(page, "green 2", "blue 3")
    assert page.url.endswith("/?q=red&category=bus")
    page.get_by_label("Remove the filter category bus").click()
    expect(page.locator(".card")).to_have_count(4)


def test_the_address_reflects_the_question_and_the_back_button_works(page: Page) -> None:
    page.goto("/")
    search(page, "red")
    expect(page.locator(".card .title").first).to_have_text("red 1")
    search(page, "blue")
    expect(page.locator(".card .title").first).to_have_text("blue 3")
    assert page.url.endswith("/?q=blue")
    page.go_back()
    expect(page.locator(".card .title").first).to_have_text("red 1")
    expect(page.get_by_label("What the picture shows")).to_have_value("red")
    page.go_back()
    expect(page.locator("#examples")).to_be_visible()
    page.goto("/?q=blue&category=bus")
    expect_titles(page, "blue 3", "green 2")


def test_the_keyboard_is_enough(page: Page) -> None:
    page.goto("/?q=red")
    expect(page.locator(".card")).to_have_count(4)
    page.locator("body").click(position={"x": 2, "y": 2})
    page.keyboard.press("/")
    expect(page.get_by_label("What the picture shows")).to_be_focused()
    page.locator(".card").first.focus()
    page.keyboard.press("Enter")
    title = page.locator("#detail-title")
    expect(title).to_have_text("red 1")
    page.keyboard.press("ArrowRight")
    expect(title).to_have_text("pink 4")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator(".card").first).to_be_focused()


def test_text_from_the_database_stays_text(page: Page, world: World) -> None:
    world.add(5, "red", title=XSS, description=XSS, category=XSS, **{XSS: XSS})
    world.failures.append({"id": XSS, "reason": XSS, "message": XSS, "attempts": 1, "first_failed": XSS})
    world.pipeline["dead_letters"] = 1
    page.goto("/?" + "q=red&category=" + "%3Cimg src=x onerror=\"window.broken='filter'\"%3E")
    expect(page.locator("#message-title")).to_have_text("Nothing found")
    page.goto("/?q=red")
    expect(page.locator(".card .title", has_text="<img src=x")).to_have_text(XSS)
    page.locator(".card", has_text="<img src=x").click()
    expect(page.locator("#detail-title")).to_have_text(XSS)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="1 failing").click()
    expect(page.locator("#failures-list .tag")).to_have_text(XSS)
    assert page.evaluate("window.broken") is None
    assert page.locator("img[src=x]").count() == 0


def test_a_store_that_is_down_is_said_with_the_remedy_and_can_be_tried_again(page: Page, world: World) -> None:
    world.store.fail_with = StoreUnreachable("Qdrant at localhost:6333 does not answer", "Start it, or set qdrant.url")
    page.goto("/?q=red")
    expect(page.locator("#message-title")).to_have_text("Server unreachable")
    expect(page.locator("#message-detail")).to_have_text("Qdrant at localhost:6333 does not answer")
    expect(page.locator("#message-remedy")).to_have_text("Start it, or set qdrant.url")
    expect(page.locator("#stats")).to_have_attribute("data-state", "bad")
    world.store.fail_with = None
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".card")).to_have_count(4)


def test_an_empty_index_and_a_filter_without_match_are_told_apart(browser: Browser, page: Page) -> None:
    page.goto("/?q=red&category=zeppelin")
    expect(page.locator("#message-title")).to_have_text("Nothing found")
    with serving(World()) as empty:
        page.goto(f"{empty}/?q=red")
        expect(page.locator("#message-title")).to_have_text("No pictures yet")


def test_the_line_at_the_top_follows_the_pipeline(page: Page, world: World) -> None:
    page.clock.install()
    page.goto("/")
    expect(page.locator("#stats")).to_contain_text("4 pictures")
    expect(page.locator("#lag")).to_have_text("up to date")
    expect(page.locator("#model")).to_have_text("colours")
    world.pipeline.update(lag_records=1200, dead_letters=3)
    world.add(5, "red")
    page.clock.run_for(5_000)
    expect(page.locator("#lag")).to_have_text("1,200 waiting")
    expect(page.locator("#stats")).to_contain_text("5 pictures")
    expect(page.get_by_role("button", name="3 failing")).to_be_visible()


def test_more_pictures_come_on_demand(page: Page, world: World) -> None:
    for point in range(10, 40):
        world.add(point, "pink")
    page.goto("/?q=pink")
    expect(page.locator(".card")).to_have_count(24)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".card")).to_have_count(34)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()


def test_a_key_that_javascript_cannot_count_to_keeps_its_digits(page: Page, world: World) -> None:
    world.add((1 << 64) - 1, "red", title="the last one")
    page.goto("/?q=red")
    page.get_by_role("button", name="the last one").click()
    page.get_by_role("button", name="Find similar").click()
    expect(page.locator("#sample-name")).to_have_text("Like the last one")
    assert page.url.endswith(f"/?similar={(1 << 64) - 1}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Browser, url: str, scheme: str, tmp_path: Path) -> None:
    context = browser.new_context(base_url=url, color_scheme=scheme, viewport={"width": 360, "height": 700})
    page = context.new_page()
    page.goto("/?q=red")
    expect(page.locator(".card .frame.loaded")).to_have_count(4)
    page.screenshot(path=tmp_path / f"{scheme}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 20, 22)"
    assert dark == (scheme == "dark")
    context.close()
