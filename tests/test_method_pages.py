"""The pages of docs/methods are those that their methods' files give."""

import re

import pytest

from nolabel import catalog
from nolabel.methods.base import Method
from nolabel.published import MEASURED, measured
from tool_scripts import ROOT, load_tool


@pytest.mark.parametrize("name", catalog.names("methods"))
def test_the_page_is_up_to_date(name: str) -> None:
    pages = load_tool("method_pages")
    written = (ROOT / "docs" / "methods" / f"{name}.md").read_text()
    assert written == pages.page(name), "run python tools/method_pages.py"


def test_what_was_measured_is_what_the_results_hold() -> None:
    pages = load_tool("method_pages")
    assert MEASURED.read_text() == pages.measured_file(pages.recorded()), "run python tools/method_pages.py"


@pytest.mark.parametrize("name", catalog.names("methods"))
def test_the_header_of_the_recipes_is_up_to_date(name: str) -> None:
    pages = load_tool("method_pages")
    written = (pages.RECIPES / f"{name}.py").read_text()
    assert written == pages.recipe_file(name), "run python tools/method_pages.py"


@pytest.mark.parametrize("name", catalog.names("methods"))
def test_the_page_says_when_to_use_the_method_and_what_was_measured(name: str) -> None:
    page = (ROOT / "docs" / "methods" / f"{name}.md").read_text()
    kind = catalog.load("methods", name, Method)
    assert kind.when
    assert f"## When to use it\n\n{kind.when}\n" in page
    results = page.partition("## Results\n\n")[2]
    for run in measured(lambda run: run.method == name):
        assert all(word in results for word in (run.task, run.linear, run.machine, f"{run.page}.md"))


@pytest.mark.parametrize("name", catalog.names("methods"))
def test_the_page_shows_a_picture_of_the_task(name: str) -> None:
    from PIL import Image

    page = ROOT / "docs" / "methods" / f"{name}.md"
    named = re.findall(r"!\[.+\]\((.+)\)", page.read_text())
    assert len(named) == 1
    picture = page.parent / named[0]
    assert picture.stat().st_size <= 120_000
    assert min(Image.open(picture).size) >= 200
