"""The home page's pictures say what is true."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tests.docs.pictures import PICTURE, picture


def test_timeline() -> None:
    """The picture of the timeline is the one that the demo has printed on its page."""
    assert PICTURE.read_text(encoding="utf-8") == picture()


@pytest.mark.parametrize("name", ["mark", "phases", "timeline"])
def test_picture(name: str) -> None:
    """A picture is well-formed, has words for who cannot see it, and colours for the dark."""
    text = PICTURE.with_name(f"{name}.svg").read_text(encoding="utf-8")
    root = ET.fromstring(text)  # noqa: S314 - it is our own
    assert root.get("role") == "img"
    assert root.get("aria-label") or root.find("{*}title") is not None
    assert name == "mark" or "(prefers-color-scheme: dark)" in text
