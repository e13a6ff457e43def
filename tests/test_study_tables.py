"""What `nolabel study` prints: every accuracy with its interval and n."""

from pathlib import Path

import numpy as np
import pytest

from cli_helpers import Say
from nolabel.evaluation.statistics import wilson
from nolabel.report.records import Row
from nolabel.studies import heads, run, seeds


def test_the_heads_are_told_with_intervals_and_n(
    say: Say, small_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row("simclr", "linear", "top1", 0.5, 0.4, 0.6, 1234)
    answer = Row("simclr", "class", "top1", 0.75, 0.7, 0.8, 1500)
    read = {where: [answer] * len(heads.QUESTIONS) for where in ("h", "g(h)")}
    monkeypatch.setattr(run, "carry_out", lambda *_, **__: {(head, "h"): row for head in run.HEADS})
    monkeypatch.setattr(heads, "answers", lambda *_: read)
    code, out, err = say("study", "heads", small_images, "--out", tmp_path)
    assert code == 0, err
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert f"mlp2 g(h) {'75.0 % (70.0 to 80.0) ' * len(heads.QUESTIONS)}1,500" in lines
    assert "linear 50.0 % 40.0 to 60.0 1,234" in lines


def test_questions_have_wilson_s_interval_for_the_images(
    small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nolabel.data.store import ImageStore

    def read(method: object, store: object, part: list[int], *_: object) -> tuple[np.ndarray, ...]:
        return (np.zeros((4 * len(part), 2)),) * 3

    monkeypatch.setattr(heads, "trained", lambda _: None)
    monkeypatch.setattr(heads, "_read", read)
    monkeypatch.setattr(heads, "_accuracy", lambda *_, seed: 0.75)
    found = heads.answers(Path("run"), ImageStore.open(small_images, size=16), 0)
    assert list(found) == ["h", "g(h)"]
    for rows in found.values():
        assert [row.protocol for row in rows] == list(heads.QUESTIONS)
        assert {(row.value, row.low, row.high, row.n) for row in rows} == {(*wilson(6, 8), 8)}


def test_seeds_are_told_with_intervals_and_n(
    say: Say, small_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear, knn = (Row("exemplar", name, "top1", 0.5, 0.4, 0.6, 1234) for name in ("linear", "knn"))
    final = {"held_out/accuracy": 0.75, "held_out/images": 40.0}
    points = [
        seeds.Point(form, 50, linear, knn, seeds._solved(form, final), 7, 0)
        for form in ("softmax", "triplet")
    ]
    points.append(seeds.Point("softmax", 100, linear, knn, seeds._solved("softmax", {"loss": 1.0}), 7, 0))
    monkeypatch.setattr(seeds, "carry_out", lambda *_, **__: points)
    code, out, err = say("study", "seeds", small_images, "--out", tmp_path)
    assert code == 0, err
    lines = [" ".join(line.split()) for line in out.splitlines()]
    told = "50.0 % (40.0 to 60.0) 50.0 % (40.0 to 60.0) 1,234"
    assert f"softmax 50 {told} 75.0 % (59.8 to 85.8) 40 7 0" in lines
    assert f"triplet 50 {told} 75.0 % 40 7 0" in lines
    assert f"softmax 100 {told} 7 0" in lines
    assert "1,234 test images" in (tmp_path / "seeds.svg").read_text()
