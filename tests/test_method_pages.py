"""The pages of docs/methods are those that their methods' files give."""

import re

import pytest

from nolabel import catalog
from tool_scripts import ROOT, load_tool


@pytest.mark.parametrize("name", catalog.names("methods"))
def test_the_page_is_up_to_date(name: str) -> None:
    pages = load_tool("method_pages")
    written = (ROOT / "docs" / "methods" / f"{name}.md").read_text()
    assert written == pages.page(name), "run python tools/method_pages.py"


@pytest.mark.parametrize("name", catalog.names("methods"))
def test_the_page_shows_a_picture_of_the_task(name: str) -> None:
    from PIL import Image

    page = ROOT / "docs" / "methods" / f"{name}.md"
    named = re.findall(r"!\[.+\]\((.+)\)", page.read_text())
    assert len(named) == 1
    picture = page.parent / named[0]
    assert picture.stat().st_size <= 120_000
    assert min(Image.open(picture).size) >= 200
