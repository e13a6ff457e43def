"""The board of a transfer table, from rows alone: encoders by sets, ties, ranks, and what is out of date."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nolabel import runs
from nolabel.report.records import Record, Row
from nolabel.report.transfer import board, called, leaks, lines, ranks, summary, transfer, unfinished

RANDOM = "random:resnet10"


def value(
    subject: str, data: str, value: float, digest: str | None = "new", protocol: str = "transfer"
) -> dict[str, Any]:
    setting = {"data": data} | ({} if subject.startswith(("random:", "supervised:")) else {"encoder": digest})
    return {
        "subject": subject,
        "protocol": protocol,
        "metric": "top1",
        "value": value,
        "n": 100,
        "setting": setting,
    }


def difference(
    subject: str, against: str, data: str, value: float, p: float, protocol: str = "transfer"
) -> dict[str, Any]:
    setting = {"data": data, "against": against, "p": p, "holm": p}
    return {
        "subject": subject,
        "protocol": protocol,
        "metric": "top1_difference",
        "value": value,
        "setting": setting,
    }


ROWS = [
    value("simclr", "/data/pets", 0.70), value("rotation", "/data/pets", 0.69), value(RANDOM, "/data/pets", 0.40),
    difference("simclr", RANDOM, "/data/pets", 0.3, 0.001), difference("rotation", RANDOM, "/data/pets", 0.29, 0.001),
    difference("simclr", "rotation", "/data/pets", 0.01, 0.6),
    value("simclr", "dtd.zip", 0.50), value("rotation", "dtd.zip", 0.40), value(RANDOM, "dtd.zip", 0.39),
    difference("simclr", RANDOM, "dtd.zip", 0.11, 0.001), difference("rotation", RANDOM, "dtd.zip", 0.01, 0.7),
    difference("simclr", "rotation", "dtd.zip", 0.1, 0.002),
]  # fmt: skip


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    runs.write_rows(folder / runs.TRANSFER, rows)
    return folder


def test_encoders_are_rows_and_the_best_and_what_is_tied_with_it_are_marked(tmp_path: Path) -> None:
    found = lines(write(tmp_path, ROWS))["transfer"]
    assert [line.beside_baseline for line in found] == [True] * 4 + [False] * 2
    table = board(found)
    assert table.sets == ("/data/pets", "dtd.zip")
    assert table.subjects == ("simclr", "rotation", RANDOM)
    assert table.best == {("simclr", "/data/pets"), ("rotation", "/data/pets"), ("simclr", "dtd.zip")}
    assert [table.cell("rotation", name).replace("\u00a0", " ") for name in table.sets] == [
        "69.0 %*",
        "40.0 %",
    ]
    assert table.cell("rotation", "other") == ""
    assert {name: rank for name, (rank, _) in table.ranks.items()} == {"simclr": 1, "rotation": 2, RANDOM: 3}
    assert summary(found)[1].startswith(
        "rotation is better than random weights on pets and tied with random weights on dtd"
    )


def test_a_difference_whose_interval_holds_zero_is_a_tie(tmp_path: Path) -> None:
    rows = [value("simclr", "dtd", 0.43), value(RANDOM, "dtd", 0.4),
            difference("simclr", RANDOM, "dtd", 0.03, 0.02) | {"low": -0.01, "high": 0.07}]  # fmt: skip
    (line,) = lines(write(tmp_path, rows))["transfer"]
    assert line.says == "tied"
    assert board([line]).best == {("simclr", "dtd"), (RANDOM, "dtd")}
    assert summary([line]) == [
        "Tied with random weights on dtd (better and worse: paired permutation test, p < 0.05, and a 95 % interval "
        "without 0)."
    ]
    sure = difference("simclr", RANDOM, "dtd", 0.03, 0.02) | {"low": 0.01, "high": 0.05}
    assert lines(write(tmp_path, [*rows[:2], sure]))["transfer"][0].says == "better"


def test_what_was_not_compared_with_the_best_is_marked_and_the_legend_says_so(tmp_path: Path) -> None:
    other = "random:resnet18"
    rows = [*ROWS[:6], value("jigsaw", "/data/pets", 0.2), value(other, "/data/pets", 0.698),
            difference("jigsaw", other, "/data/pets", -0.498, 0.001)]  # fmt: skip
    table = board(lines(write(tmp_path, rows))["transfer"])
    assert table.cell(other, "/data/pets").replace("\u00a0", " ") == "69.8 %†"
    assert table.cell("jigsaw", "/data/pets").endswith("†")
    assert table.cell(RANDOM, "/data/pets").replace("\u00a0", " ") == "40.0 %"
    assert table.legend.endswith("† not compared with the best of its set.")
    assert "†" not in board(lines(write(tmp_path, ROWS))["transfer"]).legend


def test_of_map_the_difference_is_said_to_be_of_right_decisions(tmp_path: Path) -> None:
    curve = {"1e+05": 0.1, "1": 0.3, "1e-06": 0.5}
    rows = [value("simclr", "voc2007", 0.5) | {"metric": "map11", "chosen": {"l2": 1e-6, "l2_curve": curve}},
            value(RANDOM, "voc2007", 0.3) | {"metric": "map11"},
            difference("simclr", RANDOM, "voc2007", 0.012, 0.01) | {"metric": "map11_difference"}]  # fmt: skip
    (line,) = lines(write(tmp_path, rows))["transfer"]
    assert line.change == "+1.2 of right decisions"
    assert line.chosen == "λ 1e−6 (end of the grid)"
    assert summary([line])[0].endswith("; of mAP, the share of right decisions is compared).")
    assert lines(write(tmp_path, ROWS))["transfer"][0].change == "+30.0"


def test_the_stage_and_the_five_best_guesses_stand_in_the_table(tmp_path: Path) -> None:
    chosen = {"stage": "stage3", "l2": 0.01, "l2_curve": {"1": 0.1, "0.01": 0.3, "0.0001": 0.2}}
    split = {"setting": {"data": "cifar100", "encoder": "new", "split": "a fifth held out"}}
    five = value("simclr", "cifar100", 0.71) | {"metric": "top5", "low": 0.69, "high": 0.73}
    rows = [value("simclr", "cifar100", 0.4) | {"chosen": chosen} | split, value(RANDOM, "cifar100", 0.3), five,
            difference("simclr", RANDOM, "cifar100", 0.1, 0.01)]  # fmt: skip
    (line,) = lines(write(tmp_path, rows))["transfer"]
    assert line.encoder.value == 0.4
    assert line.chosen == "stage3, λ 0.01"
    assert line.top5.replace("\u00a0", " ") == "top-5: 71.0 % (69.0 to 73.0)"
    page = str(transfer(Record(tmp_path, {}, [], (), ()))).replace("\u00a0", " ")
    for told in ("split: a fifth held out", "stage3, λ 0.01", "top-5: 71.0 %"):
        assert told in page


def test_the_caption_tells_whose_settings_differ(tmp_path: Path) -> None:
    def of(subject: str, data: str, **setting: int) -> dict[str, Any]:
        row = value(subject, data, 0.5)
        return row | {"setting": row["setting"] | setting}

    def page(*rows: dict[str, Any]) -> str:
        pairs = [difference("simclr", RANDOM, data, 0.1, 0.01) for data in ("dtd", "pets")]
        record = Record(write(tmp_path, [*rows, *pairs]), {}, [], (), ())
        return str(transfer(record)).replace("\u00a0", " ")

    alike = page(of("simclr", "dtd", size=32, seed=0), of(RANDOM, "dtd", size=32, seed=0))
    assert "Linear probe (size: 32; seed: 0)." in alike
    of_sets = page(of("simclr", "dtd", size=32), of(RANDOM, "dtd", size=32),
                   of("simclr", "pets", size=64), of(RANDOM, "pets", size=64))  # fmt: skip
    assert "Linear probe (size: 32 for dtd, 64 for pets)." in of_sets
    of_subjects = page(of("simclr", "dtd", steps=2), of(RANDOM, "dtd", steps=4))
    assert "Linear probe (steps: 2 for simclr, 4 for random weights (resnet10))." in of_subjects
    mixed = page(of("simclr", "dtd", seed=0), of(RANDOM, "dtd", seed=0),
                 of("simclr", "pets", seed=1), of(RANDOM, "pets", seed=0))  # fmt: skip
    assert "seed: 0 for simclr on dtd, random weights (resnet10) on dtd and random" in mixed


def test_weights_that_an_encoder_had_before_are_left_out(tmp_path: Path) -> None:
    old = [value("simclr", "mnist", 0.9, "old"), value(RANDOM, "mnist", 0.8),
           difference("simclr", RANDOM, "mnist", 0.1, 0.01)]  # fmt: skip
    names = [line.name for line in lines(write(tmp_path, old + ROWS))["transfer"]]
    assert "mnist" not in names
    assert names.count("pets") == 3


def test_training_from_scratch_is_called_so(tmp_path: Path) -> None:
    rows = [value("simclr", "dtd", 0.5, protocol="finetune"),
            value("supervised:resnet10+whitened", "dtd", 0.4, protocol="finetune"),
            difference("simclr", "supervised:resnet10+whitened", "dtd", 0.1, 0.01, "finetune")]  # fmt: skip
    (line,) = lines(write(tmp_path, rows))["finetune"]
    assert line.beside_baseline
    assert called(line.other.subject) == "from scratch (resnet10, whitened stem)"
    assert summary([line])[0].startswith("Better than training from scratch on dtd")


def test_known_test_images_are_told_by_set_and_clean_sets_together(tmp_path: Path) -> None:
    def leak(data: str, metric: str, share: float) -> dict[str, Any]:
        setting = {"data": data, "sentence": "2 of 10 are known."}
        return {
            "subject": "simclr",
            "protocol": "leakage",
            "metric": metric,
            "value": share,
            "setting": setting,
        }

    rows = [
        leak("a.zip", "in_pretraining", 0.2),
        leak("b", "in_pretraining", 0),
        leak("a.zip", "in_training", 0),
    ]
    assert leaks(write(tmp_path, rows)) == [
        "a, simclr: 2 of 10 are known.",
        "No test image of b is identical, or nearly so, to one of the pretraining images.",
        "No test image of a is identical, or nearly so, to one of the training images.",
    ]


def test_a_clean_set_is_told_of_the_encoder_that_it_is_clean_for(tmp_path: Path) -> None:
    def leak(subject: str, metric: str, share: float) -> dict[str, Any]:
        setting = {"data": "a.zip", "sentence": "2 of 10 are known."}
        return {
            "subject": subject,
            "protocol": "leakage",
            "metric": metric,
            "value": share,
            "setting": setting,
        }

    rows = [leak("simclr", "in_training", 0), leak("simclr", "in_pretraining", 0.2),
            leak("rotation", "in_training", 0), leak("rotation", "in_pretraining", 0)]  # fmt: skip
    assert leaks(write(tmp_path, rows)) == [
        "a, simclr: 2 of 10 are known.",
        "No test image of a is identical, or nearly so, to one of the training images.",
        "No test image of a is identical, or nearly so, to one of the pretraining images of rotation.",
    ]


def test_fits_that_did_not_converge_are_told_by_set(tmp_path: Path) -> None:
    broken = value("simclr", "dtd", 0.5)
    broken["setting"]["converged"] = False
    fine = value("simclr", "pets", 0.5)
    fine["setting"]["converged"] = True
    pairs = [difference("simclr", RANDOM, data, 0.1, 0.01) for data in ("dtd", "pets")]
    rows = [broken, fine, value(RANDOM, "dtd", 0.4), value(RANDOM, "pets", 0.4), *pairs]
    (told,) = unfinished(write(tmp_path, rows))
    assert told == "Broken off before the fit reached its minimum, so read with care: simclr on dtd."
    assert told in str(transfer(Record(tmp_path, {}, [], (), ())))


def test_ranks_are_shared_by_equals_and_values_weigh_by_logits() -> None:
    def of(*values: float) -> list[Row]:
        return [Row("x", "transfer", "top1", one, n=100) for one in values]

    found = ranks({"a": of(0.9, 0.5, 1.0), "b": of(0.8, 0.5, 0.9)})
    assert found["a"][0] == pytest.approx((1 + 1.5 + 1) / 3)
    assert found["b"][0] == pytest.approx((2 + 1.5 + 2) / 3)
    assert found["a"][1] == pytest.approx((np.log(9) + 0 + np.log(0.995 / 0.005)) / 3)
