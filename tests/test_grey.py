"""Evaluation on grey images: the pixels, and rows that stand apart from those on colour images."""

import json
from pathlib import Path

import torch

from cli_helpers import Say
from nolabel.data.store import ImageStore
from nolabel.evaluation._grey import greyed
from nolabel.views import colour


def test_every_pixel_has_its_grey_value_in_all_channels() -> None:
    random = torch.Generator().manual_seed(0)
    images = [
        torch.randint(256, (3, *side), dtype=torch.uint8, generator=random) for side in ((5, 7), (8, 4))
    ]
    store = ImageStore.of(images)
    chosen = greyed(store.subset(torch.tensor([1, 0])))
    assert chosen.fingerprint != store.fingerprint
    assert chosen.source == f"{store.source}, grey"
    for position, image in zip((1, 0), images, strict=True):
        found = chosen.batch(torch.tensor([position])).image(0)
        wanted = (colour.luma(image[None].float())[0]).round().byte().expand(3, -1, -1)
        assert torch.equal(found, wanted)


def test_rows_on_grey_images_stand_beside_those_on_colour_images(
    small_images: Path, tmp_path: Path, say: Say
) -> None:
    run = tmp_path / "run"
    words = ("--steps", 1, "--batch-size", 4, "--precision", "32-true", "--no-compile", "--out", run)
    assert say("pretrain", "rotation", small_images, *words)[0] == 0
    for grey in ((), ("--grey",)):
        code, _, err = say(
            "evaluate", run, small_images, "--protocols", "knn", "--baselines", "pixels", *grey
        )
        assert code == 0, err
    rows = [json.loads(line) for line in (run / "evaluation.jsonl").read_text().splitlines()]
    sets = {row["setting"]["data"] for row in rows if (row["protocol"], row["metric"]) == ("knn", "top1")}
    assert sets == {str(small_images), f"{small_images}, grey"}
    page = (run / "report.html").read_text()
    assert ", grey" in page
