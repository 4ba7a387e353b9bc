"""A browser for the tests of pages."""

import shutil

import pytest


@pytest.fixture(scope="module")
def chromium():
    """Start Chromium, or skip the test."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        pytest.skip("needs Chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, address):
    """Open the page at ``address``, and fail at the end where it asked for anything or complained.

    The module of the test has the fixture ``address``.
    """
    asked, errors, contexts = [], [], []

    def open_page(width, scheme="light"):
        context = chromium.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [url for url in asked if url != address and not url.startswith("data:")] == []
    assert errors == []
