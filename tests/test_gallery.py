"""The gallery's page: exhibits in the order of their papers, wide pictures that scroll on a phone."""

from pathlib import Path

from nolabel.report.gallery import WIDE, Exhibit, write_gallery


def exhibit(title: str, paper: str, width: float) -> Exhibit:
    picture = f'<svg xmlns:xlink="x" width="{width}pt" height="10pt" viewBox="0 0 9 9"></svg>'.encode()
    return Exhibit(title.lower(), title, paper, "What it does.", picture, "Drawn from images.")


def test_exhibits_stand_in_the_order_of_their_papers(tmp_path: Path) -> None:
    shown = [
        exhibit("Own", "nobody yet", WIDE),
        exhibit("Zebra", "A, B, ICCV 2015", WIDE),
        exhibit("Later", "C, NeurIPS 2020", WIDE),
        exhibit("Apple", "D (arXiv 2012), ICCV 2015", WIDE),
    ]
    page = write_gallery(shown, "Title", "Subtitle", tmp_path / "g.html").read_text()
    places = [page.index(f'id="{name}"') for name in ("apple", "zebra", "later", "own")]
    assert places == sorted(places)


def test_only_wide_pictures_scroll(tmp_path: Path) -> None:
    shown = [exhibit("Wide", "A 2001", WIDE + 0.5), exhibit("Narrow", "B 2002", WIDE - 0.5)]
    page = write_gallery(shown, "Title", "Subtitle", tmp_path / "g.html").read_text()
    body = page[page.index('id="wide"') :]
    assert body.index('class="paper wide"') < body.index('id="narrow"')
    assert body.count('class="paper wide"') == 1
    assert body.count('class="paper"') == 1
