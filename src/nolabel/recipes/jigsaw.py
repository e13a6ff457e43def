"""Jigsaw again: `nolabel reproduce jigsaw-paper DATA`, `nolabel reproduce jigsaw-scaled DATA`.

Paper (section 4 and the released solver): nine tiles of 64 px, 1000 orders, the context-free net, ImageNet, 350,000
steps. Scaled: four tiles, `resnet10`, ten minutes on two cores.

`nolabel reproduce jigsaw-caltech101 caltech101.zip`: Caltech-101 at 96 px, ten minutes on two cores; not run.
"""

from nolabel.methods.jigsaw import PAPER_IMAGENET, Jigsaw
from nolabel.recipes import CALTECH, IMAGENET, Reproduction, scaled

_BESIDE = ("Jigsaw ImageNet", "Jigsaw PASCAL", "Split-brain linear")
PAPER = Reproduction(
    method="jigsaw", encoder="alexnet_jigsaw", size=255, dataset=IMAGENET, length={"steps": 350_000},
    options=PAPER_IMAGENET[0], recipe=PAPER_IMAGENET[1], protocols=("linear",), beside=_BESIDE,
    deviations=("A linear probe is measured; the paper trains the upper layers again, and detects on PASCAL.",),
)  # fmt: skip
SCALED = scaled(Jigsaw, _BESIDE, "resnet10 on 2 x 2 tiles (24 orders) of images of 32 px.")
CALTECH101 = scaled(
    Jigsaw, _BESIDE, "resnet10 on 3 x 3 tiles of 24 px (100 orders) of images of 96 px.", dataset=CALTECH
)
