"""A headless browser, and a page whose every message, error and request is written down."""

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def browser():
    """The program that DECODEKIT_BROWSER names; without it these tests are left out."""
    asked = os.environ.get("DECODEKIT_BROWSER")
    if not asked:
        pytest.skip("runs a browser; set DECODEKIT_BROWSER=chromium, see tests/browser/requirements.txt")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(asked) or asked)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Open a trace as a file, in a window of that size and scheme."""
    contexts, heard = [], []

    def open_page(trace, *, width=1280, height=900, scheme="light", fragment="", **options):
        path = tmp_path / "trace.html"
        trace.save(path)
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)  # milliseconds
        page.on("console", lambda message: heard.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: None if request.url.startswith(path.as_uri()) else heard.append(request.url),
        )
        page.goto(path.as_uri() + fragment)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert heard == [], "a page says nothing, asks for nothing and raises nothing"


@pytest.fixture(scope="session")
def pictures():
    """Where pictures for people go."""
    folder = Path(__file__).parents[2] / "build" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
