"""The page in a real browser: what a person sees, and what the browser asks for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from browsing import needs_browser, open_browser, press, until
from chatting import Page
from comparisons import HOSTILE

from tuner.visible import visible

pytestmark = needs_browser
browser = pytest.fixture(scope="module")(open_browser)


SETTINGS = "//button[contains(., 'Settings')]"  # the last thing on the page


def come(browser: Any, page: Page) -> None:
    browser.get(page.url)
    until(lambda: browser.find_elements("xpath", SETTINGS) and focused(browser) == "TEXTAREA")


def focused(browser: Any) -> str:
    return browser.execute_script("return document.activeElement.tagName")


def shown(browser: Any) -> list[list[str]]:
    """The texts of each side of the page."""
    return browser.execute_script(
        "return [...document.querySelectorAll('.said')].map(side =>"
        " [...side.querySelectorAll('.message-content')].map(one => one.textContent))"
    )


def click(browser: Any, name: str) -> None:
    browser.find_element("xpath", f"//button[contains(., '{name}')]").click()


def test_a_person_talks_and_nothing_leaves_this_machine(browser: Any, page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.get_log("performance")
    come(browser, page)
    box = browser.find_element("css selector", "textarea")
    box.send_keys("Where" + Keys.SHIFT + Keys.ENTER + Keys.NULL + "is it?" + Keys.ENTER)
    asked = "Where\nis it?"
    until(lambda: shown(browser) == [[asked, "I am the base"], [asked, "I am the run"]])
    page.speaker.replies = {"base": "yes " * 500, "lora": "no"}
    page.speaker.may.clear()
    press(browser, "more", Keys.ENTER)
    until(lambda: shown(browser)[0][3:] == ["yes"])
    press(browser, "typed meanwhile")
    click(browser, "Stop")
    until(lambda: [side[3:] for side in shown(browser)] == [["yes\n\n(stopped)"], ["(stopped)"]])
    assert box.get_attribute("value") == "typed meanwhile"
    click(browser, "New conversation")
    until(lambda: shown(browser) == [[], []])
    page.speaker.may.set()
    click(browser, "Send")
    until(lambda: shown(browser)[1] == ["typed meanwhile", "no"])
    assert ("lora", "U:typed meanwhile") in page.speaker.asked

    requests = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    urls = [
        one["params"]["request"]["url"]
        for one in requests
        if one["method"] == "Network.requestWillBeSent"
    ]
    assert len(urls) > 10
    assert {url for url in urls if not url.startswith((page.url, "data:"))} == set()
    failed = [one["params"] for one in requests if one["method"] == "Network.loadingFailed"]
    assert [one for one in failed if not one.get("canceled")] == []


def test_hostile_texts_run_nothing_and_are_read_as_they_are(browser: Any, page: Page) -> None:
    browser.get_log("browser")
    come(browser, page)
    texts = ["def f(x):\n    if x < 1 & 2:\n        return $$x$$ **b**", *HOSTILE[:5]]
    for number, text in enumerate(texts):
        page.speaker.replies["lora"] = text
        press(browser, f"question {number}", "\ue007")
        seen = visible(text.strip())
        until(lambda seen=seen, number=number: shown(browser)[1][2 * number + 1 :] == [seen])
    assert browser.execute_script("return window.broken") is None
    tags = "return document.querySelectorAll('.message-content :not(span)').length"
    assert browser.execute_script(tags) == 0
    levels = [one for one in browser.get_log("browser") if one["level"] != "INFO"]
    assert not levels, "nothing was even tried: the texts are no markup"


def test_a_mistake_is_said_and_the_question_is_kept(browser: Any, page: Page) -> None:
    come(browser, page)
    browser.find_element("xpath", SETTINGS).click()
    number = "//label[contains(., 'max_new_tokens')]//input"
    until(lambda: any(one.is_displayed() for one in browser.find_elements("xpath", number)))
    field = browser.find_element("xpath", number)
    field.clear()
    field.send_keys("0")
    browser.find_element("css selector", "textarea").send_keys("hi", "\ue007")
    until(lambda: "max_new_tokens: 0 is not allowed" in browser.page_source)
    box = browser.find_element("css selector", "textarea")
    assert box.get_attribute("value") == "hi"
    assert shown(browser) == [[], []]


def test_a_phone_shows_all_of_it(browser: Any, page: Page) -> None:
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        come(browser, page)
        page.speaker.replies["lora"] = "x" * 3000
        press(browser, "word " * 30 + "y" * 300, "\ue007")
        until(lambda: shown(browser)[1][1:] == ["x" * 3000])
        assert browser.execute_script("return document.documentElement.scrollWidth") == 360
        for side in browser.find_elements("css selector", ".said"):
            assert side.size["width"] > 250
            inside = "return arguments[0].scrollWidth - arguments[0].clientWidth"
            assert browser.execute_script(inside, side) <= 0
        assert browser.find_element("css selector", "textarea").location["y"] < 740
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
