"""Reports in a real browser: pictures are drawn, tables sort, nothing leaves the file."""

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.report import page, writing
from experiments.report.audit_page import audit
from tests.report.conftest import EVIL

pytest.importorskip("playwright", reason="pip install 'fedmeta[dev]'")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here: apt-get install -y chromium"
)
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PHONE, WIDE = (390, 800), (1360, 900)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(compared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    writing.write(writing.page_of([compared]), path)
    return path


class Seen(list[str]):
    """What a page has asked for or complained of, beside itself."""


def opened(browser: Any, path: Path, size: tuple[int, int], scheme: str) -> tuple[Any, Seen]:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, accept_downloads=True
    )
    page, seen = context.new_page(), Seen()
    page.on("console", lambda message: seen.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.append(f"error: {error}"))
    own = path.as_uri()
    page.on(
        "request",
        lambda asked: (
            None
            if asked.url == own or asked.url.startswith(("data:", "blob:"))
            else seen.append(f"request: {asked.url}")
        ),
    )
    page.goto(own)
    return page, seen


def scrolled(page: Any) -> None:
    """Every plot has been near the eye."""
    for place in page.locator(".plot").all():
        place.scroll_into_view_if_needed()
        place.locator(".main-svg").first.wait_for()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report(
    browser: Any, report: Path, size: tuple[int, int], scheme: str, tmp_path: Path
) -> None:
    page, seen = opened(browser, report, size, scheme)
    scrolled(page)
    # Drawn: every plot of the data has marks, whatever they are.
    for place in page.locator(".plot").all():
        marks = place.locator(".point path, .points path, .lines path, .barlayer path").count()
        assert marks > 0, place.get_attribute("data-plot")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.evaluate("window.evil") is None
    assert EVIL in page.locator("#config").text_content().replace('\\"', '"')
    pictures = Path(os.environ.get("CI_ARTIFACTS", tmp_path))
    pictures.mkdir(parents=True, exist_ok=True)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=pictures / f"report-{size[0]}-{scheme}.png", full_page=True)
    assert seen == []
    page.context.close()


def test_tables_sort_and_are_saved(browser: Any, report: Path, tmp_path: Path) -> None:
    page, seen = opened(browser, report, WIDE, "light")
    head = page.locator("#table-methods thead th").nth(2)
    button = head.locator("button")

    def column(at: int) -> list[Any]:
        cells = page.locator(f"#table-methods tbody tr > :nth-child({at + 1})").all()
        return [json.loads(cell.get_attribute("data-values"))[0] for cell in cells]

    before = column(2)
    assert before != sorted(before)
    button.focus()
    page.keyboard.press("Enter")  # as without a mouse
    assert (head.get_attribute("aria-sort"), column(2)) == ("ascending", sorted(before))
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(2) == sorted(before, reverse=True)
    page.locator("#table-methods thead th button").nth(3).click()
    assert head.get_attribute("aria-sort") == "none"
    gains = column(3)
    assert gains[-1] is None  # what has no number is last
    page.locator("#table-methods thead th button").nth(3).click()
    assert column(3)[-1] is None

    with page.expect_download() as waiting:
        page.locator("button.csv[data-table=table-methods]").click()
    path = tmp_path / "methods.csv"
    waiting.value.save_as(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == column(0)
    assert [float(row["after"]) for row in rows] == pytest.approx(column(2))
    assert {row["gain"] == "" for row in rows} == {False, True}
    with page.expect_download() as waiting:
        page.locator("#origin details", has=page.locator("#save")).evaluate("d => d.open = true")
        # By key: what a fold moves when it opens may slip away under a mouse.
        page.locator("#save").press("Enter")
    assert waiting.value.suggested_filename == "config.toml"
    assert seen == []
    page.context.close()


def test_themes_and_views_can_be_chosen(browser: Any, report: Path) -> None:
    page, seen = opened(browser, report, WIDE, "light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#theme").focus()
    page.keyboard.press("Space")
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    assert page.evaluate(ground) != light
    page.keyboard.press("Space")
    assert page.evaluate(ground) == light
    scrolled(page)
    drawn = "document.querySelector('.plot[data-plot=gains]').data.map((one) => one.name).join()"
    first = page.evaluate(drawn)
    select = page.locator("select[data-plot=gains]")
    other = select.locator("option").nth(1).get_attribute("value")
    select.select_option(other)
    assert page.evaluate(drawn) != first
    assert seen == []
    page.context.close()


def test_long_words_leave_room_on_a_phone(browser: Any, tmp_path: Path) -> None:
    """The first column stays in view when a table is moved; it may not fill the page."""
    found = {
        "canaries": 500, "right": 260, "guesses": 500, "lower_bound": 0.0, "refuted": False,
        "claimed": 2.0, "delta": 1e-5,
    }  # fmt: skip
    shown = audit({"canaries": [found]})._replace(
        command="fedmeta audit config.toml " + "--x 1 " * 40
    )
    path = tmp_path / "audit.html"
    path.write_text(page.html(shown), encoding="utf-8")
    tab, seen = opened(browser, path, PHONE, "light")
    ends = tab.locator("#table-audit thead th").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect().right)"
    )
    assert ends[0] <= PHONE[0] / 2
    assert ends[1] <= PHONE[0]
    # Numbers stand right, also where there is none among them.
    row = tab.locator("#table-audit tbody tr > *")
    aligned = row.evaluate_all("all => all.map((one) => getComputedStyle(one).textAlign)")
    assert aligned == ["left", "right", "right", "right"]
    wide = tab.locator("pre:has(#command)").evaluate("one => one.scrollWidth - one.clientWidth")
    assert wide == 0
    assert tab.locator("#command").text_content() == shown.command
    assert seen == []
    tab.context.close()
