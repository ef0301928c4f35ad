"""Opens a page of tasks in a headless browser, for its tests and for the docs' picture.

`hatch run docs:picture` makes the picture.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any, Final

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.examples.programs import GUARD, launched

BROWSER: Final = which("chromium") or which("google-chrome")
DRIVER: Final = which("chromedriver")


class Page:
    """The page in a browser.

    Args:
        browser: The browser.
        address: The page's address, or that of one that has it in a frame.
        framed: Whether it is in a frame.
    """

    def __init__(self, browser: Chrome, address: str, *, framed: bool = False) -> None:
        self.browser: Final = browser
        self._wait = WebDriverWait(
            browser,
            GUARD,
            poll_frequency=0.05,
            ignored_exceptions=[NoSuchElementException, StaleElementReferenceException],
        )
        self._framed = framed
        browser.get(address)
        self.enter()

    def enter(self) -> None:
        """Look at the page, which is in its frame, and wait until it is connected."""
        if self._framed:
            self.browser.switch_to.frame(self._find("iframe"))
        self._wait.until(lambda _: self._find("#connection").text.startswith("process"))

    def _find(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def run(self, script: str) -> Any:
        """Run a script in the page, and return what it returns."""
        # Its further arguments, which are not used here, have no types.
        return self.browser.execute_script(script)  # pyright: ignore[reportUnknownMemberType]

    def resize(self, width: int) -> None:
        """Make the window as wide as this, or as narrow as chromium makes one."""
        # One of its arguments has no type.
        self.browser.set_window_size(width, 830)  # pyright: ignore[reportUnknownMemberType]

    def place_order(self, kind: str, pace: float) -> None:
        """Click the button for an order of this kind, around the frame."""
        self.browser.switch_to.default_content()
        field = self._find("#pace")
        field.clear()
        field.send_keys(str(pace))
        self._find(f"#order button[value='{kind}']").click()
        self.enter()

    def row(self, name: str) -> WebElement:
        """Return the row of a task, or of what runs by the clock."""
        return self.browser.find_element(By.XPATH, f"//tbody/tr[td[@class='name']='{name}']")

    def names(self) -> list[str]:
        """Return the names of all rows, from above."""
        return [one.text for one in self.browser.find_elements(By.CSS_SELECTOR, "tbody .name")]

    def text(self, name: str, column: str) -> str:
        """Return what the row of a task says in a column."""
        return self.row(name).find_element(By.CLASS_NAME, column).text

    def wait_for(self, name: str, state: str, message: str = "") -> None:
        """Wait until the row of a task shows a state, and a message."""

        def shows(_: object) -> bool:
            return self.text(name, "state") == state and message in self.text(name, "message")

        self._wait.until(shows, f"{name} is never shown as {state}: {message}")

    def wait_for_last(self, name: str, state: str) -> None:
        """Wait until the row of what runs by the clock shows how its last run has ended."""
        self._wait.until(lambda _: self.text(name, "last") == state)

    def progress(self, name: str) -> float:
        """Return how far the progress bar of a task is, from 0 to 1."""
        bar = self.row(name).find_element(By.TAG_NAME, "progress")
        return float(bar.get_attribute("position") or 0)

    def button(self, name: str) -> WebElement:
        """Return the button of a row."""
        return self.row(name).find_element(By.TAG_NAME, "button")


@contextmanager
def opened(profile: Path) -> Generator[Chrome]:
    """Open a browser with a new profile."""
    assert BROWSER
    assert DRIVER
    options = ChromeOptions()
    options.binary_location = BROWSER
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "disable-features=BackForwardCache",  # where a page that was left keeps its stream open
        f"user-data-dir={profile}",
        "window-size=1000,830",
    ):
        options.add_argument(f"--{flag}")
    browser = Chrome(options, Service(DRIVER))
    try:
        yield browser
    finally:
        browser.quit()


@contextmanager
def browsing(address: str, profile: Path, *, framed: bool = False) -> Generator[Page]:
    """Open the page in a browser of its own."""
    with opened(profile) as browser:
        yield Page(browser, address, framed=framed)


def take_picture(path: Path) -> None:
    """Place three orders, stop a task, and save what the page shows meanwhile."""
    with (
        TemporaryDirectory() as profile,
        launched("live") as address,
        browsing(address, Path(profile), framed=True) as page,
    ):
        page.place_order("accepted, and its mail fails", 0.05)
        page.wait_for("order 1: confirm", "failed")
        page.place_order("refused", 0.05)
        page.wait_for("order 2: refund", "succeeded")
        page.place_order("accepted", 1)
        page.wait_for("order 3: pack", "running")
        page.button("order 3: pack").click()
        page.place_order("accepted", 1)
        page.wait_for("order 3: confirm", "running", "connect")
        page.wait_for("order 4: charge", "running", "wait")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(page.browser.get_screenshot_as_png())


if __name__ == "__main__":
    take_picture(Path(sys.argv[1]).resolve())
