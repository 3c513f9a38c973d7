"""A headless browser, and a page whose every message, error and request is written down."""

import os
import shutil
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import decodekit
from decodekit.plugins import load_plugins


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


class Slow:
    """A model that takes its time."""

    def __init__(self, model, seconds):
        self._model, self._seconds = model, seconds

    def __getattr__(self, name):
        if name == "slots":
            raise AttributeError(name)  # of its own; without them every step is a call
        return getattr(self._model, name)

    def __call__(self, *args, **options):
        time.sleep(self._seconds)
        return self._model(*args, **options)


@pytest.fixture(scope="session")
def running():
    """Addresses of servers for decoders by name."""
    from decodekit_server.testing import serving

    @contextmanager
    def run(decoders, keys=()):
        with serving(decoders, keys=keys) as server:
            yield f"{server.url}/"

    return run


@pytest.fixture(scope="session")
def tagline():
    """The embedded model, with every plugin that is installed."""
    with decodekit.load("tagline", device="cpu", threads=1, plugins=load_plugins()) as decoder:
        yield decoder


@pytest.fixture(scope="session")
def address(tagline, running):
    """A server of two models: one at once, one that takes 20 ms a token."""
    slow = decodekit.Decoder(
        Slow(tagline.model, 0.02), tagline.tokenizer, tagline.bundle, tagline.plugins, max_rows=2
    )
    with slow, running({"tagline": tagline, "slow": slow}) as url:
        yield url


@pytest.fixture
def visited(browser, address):
    """Visit the playground, in a window of that size and scheme."""
    heard, contexts = [], ExitStack()

    def visit(
        fragment="",
        *,
        url=address,
        width=1280,
        height=900,
        scheme="light",
        expected=(),
        routed=None,
        **options,
    ):
        context = contexts.enter_context(
            browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        )
        page = context.new_page()
        page.set_default_timeout(5000)  # milliseconds
        page.on("console", lambda message: _hear(heard, f"console: {message.text}", expected))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: _hear(heard, request.url, (url, "data:")))
        if routed:
            page.route("**", routed)
        page.goto(url + fragment)
        page.locator("#ask:visible, #trouble:visible").first.wait_for()
        return page

    with contexts:
        yield visit
    assert heard == [], "a page says nothing, raises nothing, and asks nobody but its server"


def _hear(heard, words, expected):
    if not any(words.startswith(one) for one in expected):
        heard.append(words)


@pytest.fixture(scope="session")
def pictures():
    """Where pictures for people go."""
    folder = Path(__file__).parents[2] / "build" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
