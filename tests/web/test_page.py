"""The page in Chromium: what it shows, what it never does, and how it is used without a mouse."""

from __future__ import annotations

import re
from contextlib import contextmanager

import pytest

from hybridcore.web import app
from tests.web.conftest import running, until


@contextmanager
def opened(browser, address, **options):
    """A page of the browser; at its end it has neither complained nor asked anybody else."""
    complaints, asked = [], []
    with browser.new_context(**options) as context:
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("#tiers tbody tr")
        yield page
    assert complaints == []
    assert asked
    assert all(url.startswith(address) for url in asked)


@pytest.fixture
def address(store):
    """Where the page of the store is."""
    page = app({"users": store}, interval=0.2)
    with running(page) as address:
        yield address
        page.state.watcher.close()


def test_it_shows_what_there_is_and_goes_on(browser, address, store) -> None:
    """Tiers, charts, curve, queue, letters, invalidations; a count goes up without reloading."""
    with opened(browser, address) as page:
        tiers = page.locator("#tiers tbody tr")
        assert tiers.locator("th").all_inner_texts() == ["memory", "disk", "origin"]
        page.wait_for_selector("#requests canvas")
        page.wait_for_selector("#curve canvas")
        assert "Hit ratio by size; now 100 entries" in page.get_attribute(
            "#curve .chart", "aria-label"
        )
        assert page.locator("#queue tbody tr").count() == 3
        assert page.locator("#letters tbody tr").count() == 2
        assert page.inner_text("#connection") == "live"
        store.invalidate("later", cause="seen live")
        page.wait_for_selector("#invalidations tbody tr:has-text('seen live')")


def test_keys_are_text(browser, address) -> None:
    """What would be markup in a key, a tag, a cause or an error is shown as it is."""
    with opened(browser, address) as page:
        letters = page.inner_text("#letters")
        assert "<img src=x onerror=" in letters
        assert r"\x1b[31m\u202e\ud800" in letters
        assert "ValueError: no <b>such</b> column" in letters
        assert "<i>tag</i>" in page.inner_text("#invalidations")
        assert "<b>cause</b>" in page.inner_text("#invalidations")
        assert page.locator("main img, main b, main i").count() == 0
        assert page.title() == "hybridcore"


def test_a_letter_is_replayed(browser, address, rows, queue) -> None:
    """The button puts it into the queue again, which brings it out; the row goes."""
    with opened(browser, address) as page:
        rows.refuses = False
        page.get_by_role("button", name=re.compile("Replay letter .*row 2")).click()
        page.wait_for_selector("#message:has-text('1 queued again.')")
        until(lambda: rows.written == {"row 2": 2})
        until(lambda: page.locator("#letters tbody tr").count() == 1)
        page.get_by_role("button", name="Replay all").click()
        until(lambda: len(rows.written) == 2)
        page.wait_for_selector("#letters", state="hidden")
        assert len(queue.dead_letters) == 0


def test_it_is_used_by_keyboard(browser, address, rows) -> None:
    """Tab leads past the skip link to the letters' buttons, whose focus survives the news."""
    with opened(browser, address) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the caches"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "Replay":
                break
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert label.startswith("Replay letter")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        heard = page.evaluate("heard")
        until(lambda: page.evaluate("heard") > heard + 400)
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == label
        rows.refuses = False
        page.keyboard.press("Enter")
        page.wait_for_selector("#message:has-text('1 queued again.')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_narrow_screens_in_both_schemes(browser, address, scheme) -> None:
    """At 320 pixels nothing but tables scrolls sideways; text stands out by 4.5 to 1 at least."""
    size = {"width": 320, "height": 640}
    with opened(browser, address, viewport=size, color_scheme=scheme) as page:
        page.wait_for_selector("#curve canvas")
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        assert page.evaluate(CONTRASTS) >= 4.5


def test_everything_has_a_name(browser, address) -> None:
    """What can be focused, and each chart, tells what it is; every table has headers."""
    with opened(browser, address) as page:
        page.wait_for_selector("#curve canvas")
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate("document.documentElement.lang") == "en"


def test_a_browser_is_let_in_by_the_token(browser, store, rows) -> None:
    """As a password, also for the events and for replaying; nothing is shown without it."""
    token = "a token that is long enough"
    page_of_store = app({"users": store}, interval=0.2, token=token)
    with running(page_of_store) as address:
        with browser.new_context() as context:
            assert context.request.get(address).status == 401
        credentials = {"username": "anybody", "password": token}
        with opened(browser, address, http_credentials=credentials) as page:
            rows.refuses = False
            page.get_by_role("button", name="Replay all").click()
            page.wait_for_selector("#message:has-text('2 queued again.')")
        page_of_store.state.watcher.close()


def test_it_outlives_the_server(browser, store) -> None:
    """When the server has gone the page says so, with what it heard last."""
    page_of_store = app({"users": store}, interval=0.2)
    context = browser.new_context()
    page = context.new_page()
    with running(page_of_store) as address:
        page.goto(address)
        page.wait_for_selector("#tiers tbody tr")
        page_of_store.state.watcher.close()
    page.wait_for_selector("#connection.lost:has-text('no news since')")
    assert page.locator("#tiers tbody tr").count() == 3
    context.close()


CONTRASTS = """() => {
  const light = (colour) => {
    const parts = colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ground = (element) => {
    const found = getComputedStyle(element).backgroundColor;
    return found !== "rgba(0, 0, 0, 0)" || !element.parentElement
      ? found : ground(element.parentElement);
  };
  let least = 21;
  for (const element of document.querySelectorAll("main *, header *")) {
    if (!element.checkVisibility() || ![...element.childNodes].some((node) => node.nodeType === 3
        && node.textContent.trim())) continue;
    const both = [light(getComputedStyle(element).color), light(ground(element))];
    both.sort((a, b) => b - a);
    least = Math.min(least, (both[0] + 0.05) / (both[1] + 0.05));
  }
  return least;
}"""

NAMELESS = """() => [...document.querySelectorAll("a, button, [tabindex='0'], [role=img], table")]
  .filter((element) => element.checkVisibility() && !(
    element.getAttribute("aria-label")
    || document.getElementById(element.getAttribute("aria-labelledby"))?.textContent
    || (element.tagName === "TABLE" ? element.querySelector("th[scope=col]") : element.textContent)
    || element.classList.contains("u-legend")))
  .map((element) => element.outerHTML.slice(0, 80))"""
