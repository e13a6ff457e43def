"""The report: self-contained, escaped, honest in words, whole when pieces are missing, without torch."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nolabel.errors import FileFormatError, UsageError
from nolabel.report import pictures
from nolabel.report.page import write_comparison, write_report
from nolabel.report.records import Row
from nolabel.report.verdict import judge

VOID = {"meta", "img", "br", "link", "hr", "input"}
HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Tags, links and text of a page; fails where a tag is not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text("utf-8")
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(self.source)
        assert self._open == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [
            value or "" for name, value in attrs if name in ("src", "href", "action", "data", "srcset")
        ]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.words.append(data)


def row(
    subject: str, metric: str, value: float, half: float = 0.01, protocol: str = "linear", **other: Any
) -> Row:
    return Row(subject, protocol, metric, value, value - half, value + half, n=10_000, **other)


def rows_of(method: str, value: float = 0.641, data: str = "a.zip") -> list[Row]:
    here: dict[str, Any] = {"data": data}
    stages = {"stage": "stage2", "l2": 1e-4, "stages": {"stage1": 0.5, "stage2": value}, "l2_curve": {}}
    return [
        row(method, "top1", value, chosen=stages, setting=here | {"train_images": 50_000}),
        row("random:resnet10", "top1", 0.589, seeds=(0, 1, 2), setting=here),
        row("pixels", "top1", 0.4, setting=here),
        row(
            method, "top1_difference", value - 0.589, setting=here | {"against": "random:resnet10", "p": 1e-5}
        ),
        row(method, "top1_difference", value - 0.4, setting=here | {"against": "pixels", "p": 1e-9}),
        row(method, "top1", 0.5, protocol="knn", chosen={"k": 20, "temperature": 0.1}, setting=here),
        Row(
            method,
            "diagnostics",
            "rankme",
            118.0,
            n=512,
            setting=here | {"verdict": "Healthy: many directions."},
        ),
    ]


def write_run(folder: Path, method: str = "simclr", rows: list[Row] | None = None, **info: Any) -> Path:
    folder.mkdir(parents=True)
    described = {
        "format": 1, "method": method, "encoder": "resnet10", "size": 32, "status": "finished",
        "seconds": 598.0, "command": f"nolabel pretrain {method} a.zip",
        "budget": {"asked": {"minutes": 10}, "steps": 1460},
        "data": {"source": "/data/a.zip", "describe": "Found 60,000 images."},
        "repeat": "nolabel pretrain --steps 1460",
        "chance": {"loss": 6.236, "accuracy": 0.25},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(described | info))
    if rows is not None:
        held = [{name: getattr(one, name) for name in Row.__dataclass_fields__} for one in rows]
        (folder / "evaluation.jsonl").write_text("".join(json.dumps(one) + "\n" for one in held))
    return folder


def log(folder: Path) -> Path:
    """Curves, the last row cut short, and a list of skipped files."""
    metrics = [
        {"step": t, "epoch": t / 100, "loss": 6 - t / 300, "lr": 0.001, "held_out/loss": 6 - t / 310,
         "held_out/accuracy": 0.3, "knn": 0.4, "feature_std": 0.8, "rankme": 90.0, "views_per_second": 600.0}
        for t in range(0, 1000, 100)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in metrics) + '{"step": 10')
    skipped = f"path,reason\n{HOSTILE}.jpg,not an image\ncaf".encode()
    (folder / "skipped.csv").write_bytes(skipped + b"\xe9.jpg,bad\n")
    return folder


def draw(folder: Path) -> Path:
    """All pictures."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3), dtype=np.uint8)
    pictures.save_views(folder, pictures.ViewSheet(pixels, ("image", "view 1", "view 2"), "Two views."))
    labels = (("cat", "dog", "cat"), ("dog", "dog", "cat"))
    similar = np.ones((2, 3), np.float32)
    found = pictures.Retrieval(pixels[:, 0], pixels, similar, ("cat", HOSTILE), labels)
    pictures.save_retrieval(folder, found)
    pictures.save_filters(folder, np.random.default_rng(0).normal(size=(8, 3, 3, 3)))
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    pictures.save_panel(folder, pictures.Panel(svg, "The idea."))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything, its page written; tests only read it."""
    folder = write_run(tmp_path_factory.mktemp("report") / "simclr-1", rows=rows_of("simclr"))
    write_report(draw(log(folder)))
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> "Page":
    return Page(run / "report.html")


def assert_self_contained(page: Page) -> None:
    assert "script" not in page.tags
    assert all(link.startswith(("data:", "#")) for link in page.links)
    styles = re.sub(r"data:[^\"]*", "", page.source)
    assert not re.findall(r"https?:", styles)
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?(.)", styles))
    assert "@import" not in styles


def test_the_page_is_whole_and_self_contained(page: Page) -> None:
    assert_self_contained(page)
    assert 'name="viewport"' in page.source
    assert "@media print" in page.source
    assert "prefers-color-scheme: dark" in page.source
    sections = [
        "run",
        "curves",
        "method",
        "views",
        "accuracy",
        "stages",
        "retrieval",
        "filters",
        "skipped",
        "glossary",
    ]
    assert [key for key in page.ids if key in sections] == sections
    assert len(page.ids) == len(set(page.ids))
    for text in ("names 64.1 % (63.1 to 65.1) of 10,000 images right", "guessing: 6.24", "guessing: 25.0 %",
                 "nolabel pretrain --steps 1460", "10 minutes", "9 min 58 s", "training images: 50,000",
                 "Healthy: many directions."):  # fmt: skip
        assert text in page.text.replace("\u00a0", " "), text


def test_what_people_named_is_escaped(page: Page, tmp_path: Path) -> None:
    assert f"{HOSTILE}.jpg" in page.text
    assert "caf\\xe9.jpg" in page.text
    named = {
        "method": HOSTILE,
        "data": {"source": f"/x/{HOSTILE}"},
        "seed": HOSTILE,
        "options": {HOSTILE: HOSTILE},
    }
    rows = [row(HOSTILE, "top1", 0.6, chosen={"stage": HOSTILE})]
    other = Page(write_report(write_run(tmp_path / "run", rows=rows, **named)))
    assert "script" not in other.tags
    assert other.text.count(HOSTILE) > 5


def test_a_run_with_nothing_but_its_description_gives_sentences(tmp_path: Path) -> None:
    page = Page(write_report(write_run(tmp_path / "bare")))
    assert_self_contained(page)
    sentences = (
        "Not evaluated", "Nothing was logged", "No views were kept", "Nothing has been measured",
        "The stages were not compared", "No images were looked up", "filters were not kept",
    )  # fmt: skip
    for sentence in sentences:
        assert sentence in page.text
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "run.json").write_text('{"format": 1}')
    Page(write_report(tmp_path / "empty"))


def test_damaged_pictures_cost_one_section(tmp_path: Path) -> None:
    run = draw(write_run(tmp_path / "run"))
    for name in ("views", "retrieval", "filters"):
        path = run / "pictures" / f"{name}.npz"
        path.write_bytes(path.read_bytes()[:40])
    page = Page(write_report(run))
    assert page.text.count("is damaged") == 3
    assert "What ran" in page.text


def test_pictures_of_images_can_be_left_out(tmp_path: Path) -> None:
    page = Page(write_report(draw(write_run(tmp_path / "run")), thumbnails=False))
    assert sum(link.startswith("data:") for link in page.links) == 1  # the filters
    assert page.text.count("were left out of this page") == 2


def test_two_writings_are_equal(run: Path) -> None:
    first = (run / "report.html").read_bytes()
    assert write_report(run).read_bytes() == first


def test_the_folder_must_hold_a_run_of_a_known_format(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_report(tmp_path)
    with pytest.raises(FileFormatError):
        write_report(write_run(tmp_path / "future", format=99))


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        ({"status": "running"}, "has not finished"),
        ({"status": "interrupted"}, "was interrupted"),
        ({"status": "failed", "error": "The loss is not finite at step 7."}, "not finite at step 7"),
        (
            {"collapse": {"step": 300, "sentence": "The features collapsed by step 300."}},
            "collapsed by step 300",
        ),
    ],
)
def test_what_went_wrong_is_said_at_the_top(tmp_path: Path, info: dict[str, Any], sentence: str) -> None:
    text = Page(write_report(write_run(tmp_path / "run", **info))).text
    assert text.index(sentence) < text.index("What ran")


def test_every_cell_of_a_table_is_named_for_the_phone(page: Page) -> None:
    source = re.sub(r'<table class="published">.*?</table>', "", page.source, flags=re.S)
    assert source.count("<table") == source.count('<table class="restack"') > 0
    assert all("data-name=" in cell for cell in re.findall(r"<td[^>]*>", source))


def test_a_comparison_holds_both_runs_and_each_baseline_once(tmp_path: Path) -> None:
    first = draw(write_run(tmp_path / "simclr-1", rows=rows_of("simclr")))
    own = [one for one in rows_of("rotation", 0.655) if not one.is_baseline]
    second = draw(write_run(tmp_path / "rotation-1", "rotation", rows=own))
    page = Page(write_comparison([first, second], tmp_path / "demo.html"))
    assert_self_contained(page)
    table = page.source[page.source.index("<table") : page.source.index("</table>")]
    assert re.findall(r'<th scope="row">([^<]*)', table) == [
        "rotation-1", "simclr-1", "random weights (resnet10)", "raw pixels",
    ]  # fmt: skip
    text = page.text.replace("\u00a0", " ")
    assert "rotation-1: Training helped" in text  # against the other run's baselines
    assert "6.6 points more than random weights" in text
    assert {"run1-views", "run2-views", "run1-filters", "run2-filters"} <= set(page.ids)


def test_numbers_on_different_images_do_not_share_a_table(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rows=rows_of("simclr") + rows_of("simclr", 0.9, "b.zip"))
    page = Page(write_report(folder))
    assert "Measured on a.zip" in page.text
    assert "Measured on b.zip" in page.text
    assert page.text.count("Training helped") == 2
    first = page.source[page.source.index("<table") : page.source.index("</table>")]
    assert "64.1" in first
    assert "90.0" not in first


RANDOM = row("random:resnet10", "top1", 0.589)


def paired(value: float, p: float) -> Row:
    return row("simclr", "top1_difference", value, setting={"against": "random:resnet10", "p": p})


@pytest.mark.parametrize(
    ("rows", "tone", "words"),
    [
        ([row("simclr", "top1", 0.641), RANDOM, paired(0.052, 1e-6)], "better",
         ["5.2 points more than random weights", "larger than chance explains (p < 0.001)"]),
        ([row("simclr", "top1", 0.592), RANDOM, paired(0.003, 0.41)], "unclear",
         ["0.3 points from random weights is not larger than chance explains (p = 0.41)", "not been shown"]),
        ([row("simclr", "top1", 0.665), RANDOM, replace(paired(0.070, 0.009), low=-0.01, high=0.151)], "unclear",
         ["7.0 points from", "not larger than chance explains (p = 0.009 over the test", "−1.0 to 15.1 points)"]),
        ([row("simclr", "top1", 0.55), RANDOM, paired(-0.039, 0.002)], "worse",
         ["3.9 points less than random weights", "(p = 0.002)"]),
        ([row("simclr", "top1", 0.641), RANDOM], "better", ["the intervals do not overlap"]),
        ([row("simclr", "top1", 0.600), RANDOM], "unclear", ["the intervals overlap"]),
        ([row("simclr", "top1", 0.641)], "unknown", ["does not show that training helped"]),
        ([row("simclr", "top1", 0.641), RANDOM, row("patches", "top1", 0.7)], "better",
         ["but a baseline without training does as well", "Patch k-means, which needs no training"]),
        ([row("simclr", "top1", 0.5, protocol="knn"), RANDOM], "unknown", ["the kNN vote with this encoder"]),
        ([row("simclr", "balanced", 0.5)], "unknown", ["averaged over the classes"]),
        ([Row("simclr", "diagnostics", "rankme", 118.0, setting={"verdict": "Healthy.", "labels": "none"})], "unknown",
         ["No labels, so no accuracy", "RankMe 118", "Healthy.", "not whether they are useful"]),
        ([], "unknown", ["Not evaluated", "nolabel evaluate"]),
    ],
)  # fmt: skip
def test_the_verdict_in_words(rows: list[Row], tone: str, words: list[str]) -> None:
    found = judge(rows, "simclr")
    assert found.tone == tone
    text = f"{found.title}. {' '.join(found.sentences)}".replace("\u00a0", " ")
    for word in words:
        assert word in text, text


def test_the_verdict_takes_the_test_against_random_not_another() -> None:
    other = row("simclr", "top1_difference", 0.3, setting={"against": "pixels", "p": 1e-9})
    found = judge([row("simclr", "top1", 0.592), RANDOM, other, paired(0.003, 0.4)], "simclr")
    assert found.tone == "unclear"


def test_pretrained_weights_are_told_beside_the_encoder() -> None:
    elsewhere = row("pretrained:timm:resnet18", "top1", 0.7)
    found = judge([row("simclr", "top1", 0.641), RANDOM, paired(0.052, 1e-6), elsewhere], "simclr")
    assert found.title == "Training helped"
    assert found.sentences[-1].replace("\u00a0", " ") == (
        "Pretrained weights (timm:resnet18), which learnt from other images, reach 70.0 % (69.0 to 71.0): "
        "5.9 points more than this encoder."
    )


KNN = [row("simclr", "top1", 0.46, protocol="knn"), row("random:resnet10", "top1", 0.345, protocol="knn")]


def knn_difference(value: float, p: float) -> Row:
    return replace(paired(value, p), protocol="knn")


@pytest.mark.parametrize(
    ("linear", "near", "title", "words"),
    [
        (paired(0.003, 0.41), knn_difference(0.115, 1e-9), "Better than random weights by kNN, not shown by a linear",
         "46.0 % (45.0 to 47.0) right: 11.5 points more than random weights (95 % interval 10.5 to 12.5), more"),
        (paired(0.003, 0.41), knn_difference(0.002, 0.6), "No difference from random weights was shown",
         "no more than chance explains (p = 0.60)"),
        (paired(0.052, 1e-6), knn_difference(0.115, 1e-9), "Training helped", "11.5 points more"),
        (paired(-0.05, 1e-6), knn_difference(0.115, 1e-9), "Worse than random weights", "11.5 points more"),
    ],
)  # fmt: skip
def test_the_verdict_tells_what_knn_says_beside_the_probe(
    linear: Row, near: Row, title: str, words: str
) -> None:
    found = judge([row("simclr", "top1", 0.592), RANDOM, linear, *KNN, near], "simclr")
    assert found.title.startswith(title)
    assert words in " ".join(found.sentences).replace("\u00a0", " ")


def test_pictures_come_back_as_they_were_saved(run: Path) -> None:
    sheet, found = pictures.load_views(run), pictures.load_retrieval(run)
    assert sheet is not None
    assert found is not None
    assert sheet.tiles.shape == (2, 3, 8, 8, 3)
    assert sheet.columns == ("image", "view 1", "view 2")
    assert found.query_labels == ("cat", HOSTILE)
    assert found.match_labels[0] == ("cat", "dog", "cat")
    panel = pictures.load_panel(run)
    assert panel is not None
    assert (panel.picture[:4], panel.text) == (b"<svg", "The idea.")
    with pytest.raises(ValueError, match="columns"):
        pictures.save_views(run, pictures.ViewSheet(sheet.tiles, ("image",), ""))


def test_right_and_wrong_matches_differ_in_sign_and_frame(page: Page) -> None:
    source = page.source
    shown = re.findall(r'<div class="tile (right|wrong)">.*?<b>(.)</b>', source)
    assert shown[:3] == [("right", "✓"), ("wrong", "✗"), ("right", "✓")]
    assert "border-style: dashed" in source


def test_the_report_loads_no_torch(run: Path) -> None:
    code = (
        "import sys; from nolabel.report.page import write_report; assert 'torch' not in sys.modules; "
        f"write_report({str(run)!r}); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
