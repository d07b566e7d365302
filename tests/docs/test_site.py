"""The documentation as files, in a real browser: it asks for nothing from elsewhere, and finds."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import ROOT
from tests.report.test_browser import CHROMIUM, Seen, browser  # noqa: F401

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install -y chromium"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    made = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(folder),
    ]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(made, cwd=ROOT, env=env, check=True, timeout=240)
    return folder


@pytest.fixture
def tab(browser: Any, site: Path) -> Iterator[tuple[Any, Seen]]:  # noqa: F811
    page, seen = browser.new_context().new_page(), Seen()
    page.on("console", lambda message: seen.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.append(f"error: {error}"))
    own = (site.as_uri(), "data:", "blob:", "about:")
    page.on(
        "request",
        lambda asked: None if asked.url.startswith(own) else seen.append(f"request: {asked.url}"),
    )
    yield page, seen
    page.context.close()


def test_every_page_opens_without_a_network(tab: tuple[Any, Seen], site: Path) -> None:
    page, seen = tab
    for path in sorted(set(site.glob("*.html")) - {site / "404.html"}):  # which only servers show
        page.goto(path.as_uri())
        assert page.locator("h1").count() >= 1, path.name
        broken = "[...document.images].filter((one) => !one.complete || !one.naturalWidth).length"
        page.locator("img").evaluate_all("all => all.forEach((one) => one.loading = 'eager')")
        page.wait_for_load_state("networkidle")
        assert page.evaluate(broken) == 0, path.name
        assert seen == [], path.name


def test_search_finds_a_page(tab: tuple[Any, Seen], site: Path) -> None:
    page, seen = tab
    page.goto((site / "index.html").as_uri())
    page.locator("input.md-search__input").fill("quarantine")
    first = page.locator(".md-search-result__link").first
    first.wait_for(timeout=10_000)
    assert "quarantine" in page.locator(".md-search-result__list").inner_text().lower()
    begun = page.url
    first.click()
    page.wait_for_url(lambda url: url.split("#")[0] != begun)
    assert "quarantine" in page.locator("article").inner_text().lower()
    assert seen == []
