"""Jigsaw again.

Paper (section 4 and the released solver): nine tiles of 64 px from cells of 75, 1000 orders, the context-free net,
ImageNet, 350,000 steps. Scaled: four tiles, `resnet10`, ten minutes on two cores.

Settings: command; length; hardware; result (by tools/method_pages.py).

- `nolabel reproduce jigsaw-paper DATA`: 350,000 steps; 3,600 minutes (2.5 days) of a GPU in the paper; not run.
- `nolabel reproduce jigsaw-scaled cifar10.zip`: 10 minutes; two cores of a processor; linear 67.0 %, kNN 43.1 %,
  loss 0.9406 (chance 3.18), accuracy 0.6907 (chance 0.0417); one seed, 10 minutes on AMD EPYC, 2 threads, bfloat16,
  2026-11-27.
- `nolabel reproduce jigsaw-caltech101 caltech101.zip`: 10 minutes; two cores of a processor; not run.
"""

from nolabel.methods.jigsaw import PAPER_IMAGENET, Jigsaw
from nolabel.recipes import CALTECH, IMAGENET, Reproduction, scaled

_BESIDE = ("Jigsaw ImageNet", "Jigsaw PASCAL", "Split-brain linear", "Revisiting")
PAPER = Reproduction(
    method="jigsaw", encoder="alexnet_jigsaw", size=256, dataset=IMAGENET, length={"steps": 350_000},
    options=PAPER_IMAGENET[0], recipe=PAPER_IMAGENET[1], protocols=("linear",), beside=_BESIDE,
    deviations=(
        "A linear probe is measured; the paper trains the upper layers again, and detects on PASCAL.",
        "Cells are of 75 px and the window of 225 moves in 256 px, as the paper draws its net; its part on shortcuts "
        "has 85 and 255, as the released code, whose window fills the image.",
        "Weights start from He's normal distribution (convolutions) and as torch's do; biases learn no faster.",
    ),
    hardware="3,600 minutes (2.5 days) of a GPU in the paper",
)  # fmt: skip
SCALED = scaled(Jigsaw, _BESIDE, "resnet10 on 2 x 2 tiles (24 orders) of images of 32 px.")
CALTECH101 = scaled(
    Jigsaw, _BESIDE, "resnet10 on 3 x 3 tiles of 24 px (100 orders) of images of 96 px.", dataset=CALTECH
)
