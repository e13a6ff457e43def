"""The pages of docs/methods are those that their methods' files give."""

import importlib.util
import re
from pathlib import Path

import pytest

from nolabel import catalog

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", catalog.names("methods"))
def test_the_page_is_up_to_date(name: str) -> None:
    spec = importlib.util.spec_from_file_location("method_pages", ROOT / "tools" / "method_pages.py")
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
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
