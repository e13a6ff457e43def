"""Counting again: `nolabel reproduce counting-paper DATA`, `nolabel reproduce counting-scaled DATA`.

Paper (section 4): AlexNet on tiles of 112 px, 1000 counts, ImageNet, 300,000 steps. Scaled: `resnet10` on images of
32 px, ten minutes on two cores.

`nolabel reproduce counting-caltech101 caltech101.zip`: Caltech-101 at 96 px, ten minutes on two cores; not run.
"""

from nolabel.methods.counting import PAPER_IMAGENET, Counting
from nolabel.recipes import CALTECH, IMAGENET, Reproduction, scaled

_BESIDE = ("Counting linear", "Counting PASCAL")
PAPER = Reproduction(
    method="counting", encoder="alexnet_counting", size=224, dataset=IMAGENET, length={"epochs": 30},
    options=PAPER_IMAGENET[0], recipe=PAPER_IMAGENET[1], protocols=("linear",), beside=_BESIDE,
    deviations=("Batch size and length are ours: the paper does not give them.",),
)  # fmt: skip
SCALED = scaled(Counting, _BESIDE, "resnet10, fewer counts, tiles of 16 px: little content, a demonstration.")
CALTECH101 = scaled(Counting, _BESIDE, "resnet10, 128 counts, tiles of 48 px.", dataset=CALTECH)
