"""A real browser, which reaches nothing but this machine."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no browser: apt-get install chromium chromium-driver",
)
PATIENCE = 15  # seconds


def open_browser() -> Iterator[Any]:
    """Opens it, and closes it at the end; it keeps a log of its complaints and its requests."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    # Without a sandbox, as it cannot have one where the tests run as root in a container; offline.
    for one in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu",
                "disable-background-networking", "proxy-server=127.0.0.1:9",
                "proxy-bypass-list=127.0.0.1"):  # fmt: skip
        options.add_argument(f"--{one}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(PATIENCE)
    yield driver
    driver.quit()


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def until(check: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
