"""Colorization again: `nolabel reproduce colorization-paper DATA`, `nolabel reproduce colorization-scaled DATA`.

Paper (section 3 and the released solver): its own dilated net on crops of 176 px, 313 classes, ImageNet. Scaled:
`resnet10` at 32 px, ten minutes on two cores.

`nolabel reproduce colorization-caltech101 caltech101.zip`: Caltech-101 at 96 px, ten minutes on two cores; not run.
"""

from nolabel.methods.colorization import PAPER_IMAGENET, Colorization
from nolabel.recipes import CALTECH, IMAGENET, Reproduction, scaled

_BESIDE = ("Colorization PASCAL", "Split-brain linear")
PAPER = Reproduction(
    method="colorization", encoder="colorization_net", size=176, dataset=IMAGENET, length={"epochs": 15},
    options=PAPER_IMAGENET[0], recipe=PAPER_IMAGENET[1], protocols=("linear",), beside=_BESIDE,
    deviations=("Its k-means initialisation is not built.", "AdamW stands for Adam with L2."),
)  # fmt: skip
SCALED = scaled(
    Colorization,
    _BESIDE,
    "resnet10 with a thin head on images of 32 px.",
    hardware="one core of an AMD EPYC (Zen 3), 20 minutes beside other programs",
    result="linear 60.9 % (60.0–61.9), kNN 37.9 %, loss 3.516 where the best constant has 3.676; one seed",
)
CALTECH101 = scaled(
    Colorization,
    _BESIDE,
    "resnet10 with a thin head on images of 96 px, colours on a grid of 24.",
    dataset=CALTECH,
)
