"""What check-pretext says, from the evidence alone, and what it reads of a run."""

import pytest
import torch

from nolabel.data.store import ImageStore
from nolabel.pretext import Solved, colourful, judge


def accuracy(score: float, chance: float = 0.25, images: int = 1000) -> Solved:
    return Solved(score, chance, images, "accuracy")


def test_a_task_at_chance_does_not_fit() -> None:
    told = judge("rotation", accuracy(0.26), None, 1.0)
    assert "does not fit" in told[0]
    assert "natural up" in told[0]


def test_a_task_above_chance_fits_and_one_at_the_top_is_too_easy() -> None:
    assert "rotation fits" in judge("rotation", accuracy(0.6), None, 1.0)[0]
    assert "almost perfectly" in judge("rotation", accuracy(0.99), None, 1.0)[0]


@pytest.mark.parametrize(
    ("without", "found"), [(0.9, "there is a shortcut"), (0.62, "no shortcut was found")]
)
def test_a_shortcut_is_what_defences_cost(without: float, found: str) -> None:
    assert found in judge("jigsaw", accuracy(0.6), accuracy(without), 1.0)[1]


def test_a_loss_is_judged_against_the_constant_answer() -> None:
    assert "48% below" in judge("colorization", Solved(0.48, 0, 100, "loss"), None, 1.0)[0]
    assert (
        "no better than one constant answer"
        in judge("colorization", Solved(0.0, 0, 100, "loss"), None, 1.0)[0]
    )


def test_grey_images_have_nothing_for_colorization() -> None:
    grey = torch.randint(256, (20, 1, 16, 16), dtype=torch.uint8).expand(20, 3, 16, 16).contiguous()
    assert colourful(ImageStore.of(grey)) == 0
    assert colourful(ImageStore.of(torch.randint(256, (20, 3, 16, 16), dtype=torch.uint8))) == 1
    assert "Only 0% of the images have colour" in judge("simclr", accuracy(0.6), None, 0.0)[-1]
