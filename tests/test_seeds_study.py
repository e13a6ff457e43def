"""The study of Exemplar's seeds: its runs, what it reads from them, and that it goes on where it stopped."""

from pathlib import Path

import pytest

from cli_helpers import Say, one_line
from nolabel.report.records import Row
from nolabel.studies import seeds


def test_every_form_is_run_at_every_number_of_seeds() -> None:
    found = list(seeds.cells(seeds.COUNTS, seeds.FORMS))
    assert len(found) == 15
    assert len({cell.name for cell in found}) == 15
    assert found[0].options == {"form": "softmax", "seeds": 50}
    assert {cell.options["seeds"] for cell in found} == {50, 100, 200, 500, 1000}


def test_the_picture_has_both_charts() -> None:
    linear, knn = (
        Row("exemplar", "linear", "top1", value, value - 0.1, value + 0.1, 1000) for value in (0.5, 0.3)
    )
    points = [
        seeds.Point(form, count, linear, knn, None, 257 * count, 0)
        for form in ("softmax", "triplet")
        for count in (50, 1000)
    ]
    picture = seeds.picture(points, "Exemplar")
    assert picture.lstrip().startswith(b"<?xml")
    assert len(picture) > 10_000


@pytest.mark.slow
def test_the_study_ends_with_a_table_and_is_not_run_twice(
    say: Say, small_images: Path, tmp_path: Path
) -> None:
    words = ("study", "seeds", small_images, "--counts", "5", "--forms", "softmax,instance", "--minutes", "0.02",
             "--out", tmp_path / "study")  # fmt: skip
    code, out, err = say(*words)
    assert code == 0, err
    table = [line for line in out.splitlines() if line.startswith(("softmax ", "instance "))]
    lines = {"".join(line.split()[:2]): line.split() for line in table}
    assert lines["softmax5"][-2:] == [f"{257 * 5:,}", "0"]
    assert lines["instance5"][-2:] == [f"{256 * 128 + 128:,}", f"{5 * 128:,}"]
    assert (tmp_path / "study" / "seeds.svg").is_file()
    again = say(*words)
    assert "training for" not in again[1]
    assert set(table) <= set(again[1].splitlines())


@pytest.mark.parametrize(("option", "value"), [("--counts", "1"), ("--forms", "pairs")])
def test_wrong_numbers_and_forms_are_refused(
    say: Say, small_images: Path, tmp_path: Path, option: str, value: str
) -> None:
    code, _, err = say("study", "seeds", small_images, option, value, "--out", tmp_path / "study")
    assert code == 2
    one_line(err, value if option == "--forms" else "seeds >= 2")
