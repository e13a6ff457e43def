"""The tables of `docs/results`: what is drawn from kept rows, and where."""

from pathlib import Path
from typing import Any

from tool_scripts import load_tool

tables = load_tool("record_tables")


def measured(subject: str, protocol: str, value: float) -> dict[str, Any]:
    ends = {"low": value - 0.01, "high": value + 0.01, "n": 100}
    return {"subject": subject, "protocol": protocol, "metric": "top1", "value": value, **ends}


ROWS = [
    {
        "method": "simclr", "seed": 0, "data": "cifar10",
        "measured": [
            measured("simclr", "linear", 0.7), measured("random:resnet10", "linear", 0.6),
            measured("simclr", "linear@1%", 0.5) | {"labels": 500, "stage": ["stage1", "stage4"]},
            measured("random:resnet10", "linear@1%", 0.3) | {"labels": 500},
            measured("simclr", "linear@50", 0.5) | {"labels": 500},
            measured("simclr", "finetune@4", 0.2) | {"labels": 40, "steps": 100},
            measured("pixels", "knn", 0.2), measured("supervised:resnet10", "supervised", 0.9),
        ],
        "transfer": {"pets": {
            "metric": "mean per class", "n": 1200, "encoder": 0.4, "encoder_low": 0.37, "encoder_high": 0.43,
            "difference": 0.1, "low": 0.05, "high": 0.15, "says": "better",
        }},
    },
    {
        "method": "rotation", "seed": 0, "data": "cifar10",
        "measured": [measured("rotation", "conv", 0.8) | {"stage": "stage2", "steps": 1500}],
        "transfer": {},
    },
]  # fmt: skip


def test_random_weights_have_a_column_of_their_own_and_empty_lines_are_left_out() -> None:
    drawn = tables.heads(ROWS).splitlines()
    assert drawn[0] == "| trained with all labels | SimCLR, seed 0 | rotation, seed 0 | random weights |"
    assert drawn[2:] == [
        "| linear probe, best stage | 70.0 (69.0–71.0) |  | 60.0 (59.0–61.0) |",
        "| convolutional head, best stage, frozen |  | 80.0 (79.0–81.0), stage2, 1,500 steps |  |",
        "| the whole net, from random weights |  |  | 90.0 (89.0–91.0) |",
    ]


def test_few_labels_have_a_line_for_each_number_of_them() -> None:
    assert tables.few(ROWS[:1]).splitlines()[2:] == [
        "| linear probe, best stage, 500 labels (1 %) | 50.0 (49.0–51.0) | 30.0 (29.0–31.0) |",
        "| the whole net, trained on, 40 labels (4 a class) | 20.0 (19.0–21.0), 100 steps |  |",
    ]
    assert tables.few(ROWS[1:]) == ""
    assert tables.few(ROWS) == tables.few(ROWS[:1])


def saved(against: str, value: float, low: float | None, text: str) -> dict[str, Any]:
    row = measured("simclr", "label_efficiency@4", value) | {"metric": "labels_saved", "labels": 40}
    return row | {"low": low, "high": 90.0, "against": against, "range": text}


def test_labels_saved_stand_beside_the_three_curves_and_bounds_are_marked() -> None:
    run = ROWS[0] | {"measured": [
        measured("simclr", "label_efficiency@4", 0.4) | {"labels": 40},
        measured("random:resnet10", "label_efficiency@4", 0.3) | {"labels": 40},
        measured("supervised:resnet10", "label_efficiency@4", 0.2) | {"labels": 40, "steps": 300},
        saved("random:resnet10", 60.0, 30.0, "within the measured numbers of labels"),
        saved("supervised:resnet10", 1960.0, None, "at least: with its 2,000 labels the other stays below"),
    ]}  # fmt: skip
    head, _, line = tables.efficiency([run]).splitlines()
    assert head == (
        "| labels | SimCLR, seed 0, probe | random weights, probe | from scratch "
        "| SimCLR, seed 0 saves over random weights | SimCLR, seed 0 saves over training from scratch |"
    )
    assert line == (
        "| 40 (4 a class) | 40.0 (39.0–41.0) | 30.0 (29.0–31.0) | 20.0 (19.0–21.0), 300 steps "
        "| 60 (30 to 90) | ≥ 1,960 (… to 90) |"
    )
    assert tables.efficiency(ROWS) == ""
    assert tables.few([run]) == ""


def test_a_net_that_was_trained_on_tells_those_steps() -> None:
    run = ROWS[1] | {"measured": [
        measured("rotation", "conv_finetuned", 0.9) | {"steps": 1500, "unfrozen_steps": 700}
    ]}  # fmt: skip
    line = tables.heads([run]).splitlines()[-1]
    assert line == "| the same net and convolutional head, trained on | 90.0 (89.0–91.0), 700 steps |  |"


def test_transfer_says_what_was_gained_over_random_weights() -> None:
    head, _, line = tables.transfer(ROWS).splitlines()
    assert head == "| encoder, pretrained on | pets (mean per class, n = 1,200) |"
    assert line == "| SimCLR, seed 0, cifar10 | 40.0 (37.0–43.0); +10.0 (5.0 to 15.0), better |"


def test_a_painted_hole_stands_beside_the_mean_of_what_is_visible() -> None:
    held = {"loss": 0.05, "constant_loss": 0.15, "visible_loss": 0.18, "visible_l1": 0.17, "psnr": 19.8}
    told = load_tool("record_runs").task_in_words({"held_out": held, "chance": None})
    assert told == "loss 0.05, constant_loss 0.15, visible_loss 0.18, psnr 19.8"


def test_what_was_fine_tuned_has_a_table_of_its_own() -> None:
    tuned = [ROWS[0] | {"finetune": ROWS[0]["transfer"], "transfer": {}}]
    assert tables.transfer(tuned, "finetune") == tables.transfer(ROWS[:1])
    assert tables.transfer(ROWS, "finetune") == ""


def test_a_table_replaces_what_stood_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- few cifar10 -->\nold\n<!-- end -->\nafter\n")
    tables.draw(page, ROWS)
    assert "old" not in page.read_text()
    assert "500 labels (1 %)" in page.read_text()
    assert page.read_text().endswith("<!-- end -->\nafter\n")
