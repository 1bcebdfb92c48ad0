"""The page in a real browser: keys, clicks, a phone, hostile texts, a server that is killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import needs_browser, open_browser, press, until
from comparisons import HOSTILE, Server, begin, write_comparison

from tuner.rating.items import arrange

pytestmark = needs_browser
browser = pytest.fixture(scope="module")(open_browser)


def status(browser: Any) -> str:
    return browser.execute_script("return document.getElementById('status').textContent")


def focused(browser: Any) -> str:
    return browser.execute_script("return document.activeElement.id")


def test_a_rater_needs_the_keyboard_alone(
    browser: Any, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    from selenium.webdriver.common.keys import Keys

    study, store = begin(write_comparison(tmp_path, count=2))
    browser.get(serve(tmp_path).url)
    press(browser, "Ann", Keys.ENTER)
    until(lambda: "/item/1?rater=Ann" in browser.current_url and focused(browser) == "A-0")
    press(browser, *"12345")
    assert focused(browser) == "B-0"
    press(browser, Keys.ARROW_LEFT, Keys.ARROW_DOWN)
    assert focused(browser) == "A-1"
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    assert focused(browser) == "B-0"
    press(browser, *"54321")
    assert focused(browser) == "AB"
    press(browser, "b", Keys.ENTER, "a 1 n comment", Keys.ESCAPE)
    until(lambda: len(store.ratings()) == 12 and status(browser) == "Saved")
    first, _ = arrange(study, "Ann")
    stored = {(r.kind, r.criterion, r.system): r.value for r in store.ratings()}
    for letter, values in (("A", "12345"), ("B", "54321")):
        for criterion, value in zip(study.criteria, values, strict=True):
            assert stored["score", criterion, first.system(letter)] == value
    assert stored["preference", "", study.systems[0]] == first.system("B")
    assert stored["comment", "", ""] == "a 1 n comment"
    assert browser.find_element("id", "done").text == "1"
    press(browser, "n")
    until(lambda: "/item/2" in browser.current_url)
    press(browser, "t", "p")
    until(lambda: "/item/1" in browser.current_url)
    assert any(r.value == "" for r in store.ratings() if r.kind == "preference"), "saved first"
    assert len(browser.find_elements("css selector", '[aria-pressed="true"]')) == 11
    assert browser.find_element("id", "text").get_attribute("value") == "a 1 n comment"


def test_hostile_texts_run_nothing(
    browser: Any, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    texts = [text[:20_000] for text in HOSTILE]
    rubric = {text[:200]: text[:200] for text in HOSTILE[:6]}
    _, store = begin(write_comparison(tmp_path, texts=texts, rubric=rubric))
    server = serve(tmp_path)
    browser.get(server.url)
    browser.get_log("browser")
    rater = "<script>window.broken=1</script>\"'&\u202e"
    field = browser.find_element("id", "rater")
    field.send_keys(rater)
    field.submit()
    for number in range(1, len(HOSTILE) + 1):
        until(lambda number=number: f"/item/{number}?" in browser.current_url)
        until(lambda: focused(browser) == "A-0")
        browser.find_element("id", "text").send_keys(HOSTILE[1])
        button = browser.find_element("css selector", "#A-0 button[value='5']")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        until(lambda number=number: len(store.ratings()) == 2 * number)
        assert browser.execute_script("return window.broken") is None
        wide = "return document.documentElement.scrollWidth - window.innerWidth"
        assert browser.execute_script(wide) <= 0
        browser.find_element("id", "next").click()
    assert {r.rater for r in store.ratings()} == {rater.replace("\u202e", "\\u202e")}
    assert {r.value for r in store.ratings() if r.kind == "comment"} == {HOSTILE[1]}
    complaints = [one["message"] for one in browser.get_log("browser")]
    assert not complaints, "nothing was even tried: the texts are no markup"


def test_a_click_is_not_shown_as_saved_before_it_is(
    browser: Any, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    _, store = begin(write_comparison(tmp_path))
    server = serve(tmp_path)
    browser.get(f"{server.url}item/1?rater=Ann")
    until(lambda: focused(browser) == "A-0")
    server.stop()
    press(browser, "4", "2")
    until(lambda: "Not saved yet: the server does not answer" in status(browser))
    button = browser.find_element("css selector", "#A-0 button[value='4']")
    assert button.get_attribute("aria-pressed") == "false"
    assert button.get_attribute("class") == "pending"
    press(browser, "n")
    assert "/item/1" in browser.current_url, "nobody leaves with clicks that are not stored"
    assert store.ratings() == []
    serve(tmp_path, int(server.host.rpartition(":")[2]))
    until(lambda: "/item/2" in browser.current_url)
    assert sorted(r.value for r in store.ratings()) == ["2", "4"]


def test_a_phone_shows_all_of_it(
    browser: Any, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    begin(write_comparison(tmp_path, texts=["word " * 300, "x" * 3000], systems="pqrs"))
    server = serve(tmp_path)
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for page in ("", "item/1?rater=Ann", "item/2?rater=Ann", "done?rater=Ann"):
            browser.get(server.url + page)
            wide = "return document.documentElement.scrollWidth"
            assert browser.execute_script(wide) == 360, page
            for button in browser.find_elements("css selector", "button:not([hidden])"):
                assert button.size["height"] >= 36, "a finger can hit it"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_page_of_another_site_can_change_nothing(
    browser: Any, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    _, store = begin(write_comparison(tmp_path))
    server, other = serve(tmp_path), serve(tmp_path)
    for kind in ("score", "comment"):
        browser.get("data:text/html,<title>evil</title>")
        browser.execute_script(
            """const form = document.createElement("form");
            form.method = "post"; form.action = arguments[0];
            for (const [name, value] of Object.entries(arguments[1])) {
                const field = document.createElement("input");
                field.name = name; field.value = value; form.append(field);
            }
            document.body.append(form); form.submit();""",
            f"{server.url}item/1",
            {"rater": "Ann", "kind": kind, "answer": "A", "criterion": "0", "value": "5"},
        )
        until(lambda: "refused" in browser.page_source)
    browser.get(other.url)  # the same machine, but another port is another site
    browser.execute_async_script(
        "fetch(arguments[0], {method: 'POST', mode: 'no-cors', body: arguments[1]})"
        ".then(arguments[2], arguments[2])",
        f"{server.url}item/1",
        "rater=Ann&kind=score&answer=A&criterion=0&value=5",
    )
    assert store.ratings() == []
