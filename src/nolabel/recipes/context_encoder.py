"""Context encoder again.

Paper (section 4.2): AlexNet at 227 px, random regions, squared error alone, ImageNet, 100,000 steps. `pictures`
(section 4.1): the inpainting net at 128 px with its adversary. Scaled: `resnet10` at 32 px, ten minutes on two cores.

Settings: command; length; hardware; result (by tools/method_pages.py).

- `nolabel reproduce context-encoder-paper DATA`: 100,000 steps; 840 minutes of a Titan X in the paper; not run.
- `nolabel reproduce context-encoder-pictures DATA`: 500 epochs; the paper gives no minutes; 1.6 s a step of 16
  images on one Zen 4 thread, so about 9 days for its 14,900 images; not run.
- `nolabel reproduce context-encoder-scaled cifar10.zip`: 10 minutes; two cores of a processor; linear 67.6 %, kNN
  41.9 %, loss 0.04182, psnr 20.93, constant_loss 0.1504, constant_psnr 15.41, visible_loss 0.1825; one seed, 10
  minutes on Intel(R) Xeon(R) Processor, 2 threads, bfloat16, 2026-11-27.
- `nolabel reproduce context-encoder-caltech101 caltech101.zip`: 10 minutes; two cores of a processor; not run.
"""

from nolabel.methods.context_encoder import (
    PAPER_FEATURES,
    PAPER_PICTURES,
    ContextEncoder,
)
from nolabel.recipes import CALTECH, IMAGENET, Reproduction, scaled

_FEATURES = ("Context Encoder Table 2", "Split-brain linear")
PAPER = Reproduction(
    method="context_encoder", encoder="context_encoder_features", size=227, dataset=IMAGENET, length={"steps": 100_000},
    options=PAPER_FEATURES[0], recipe=PAPER_FEATURES[1], protocols=("linear",), beside=_FEATURES,
    deviations=(
        "Regions are thresholded noise, as in the released code; the paper pasted outlines of PASCAL objects.",
        "Crops are half to all of the area (ours).",
        "The rate is from memory and the batch size ours: the code for features was not released.",
    ),
    hardware="840 minutes of a Titan X in the paper",
)  # fmt: skip
PICTURES = Reproduction(
    method="context_encoder", encoder="context_encoder_inpainting", size=128, dataset="Paris StreetView",
    length={"epochs": 500}, options=PAPER_PICTURES[0], recipe=PAPER_PICTURES[1], protocols=("linear",),
    beside=("Context Encoder Table 1",),
    deviations=(
        "The error is that of the hole inside its visible rim; which pixels the published one counts is not recorded.",
        "Crops are 13 to 100 % of the area, not 128 of 350 px.",
    ),
    hardware="the paper gives no minutes; 1.6 s a step of 16 images on one Zen 4 thread, "
    "so about 9 days for its 14,900 images",
)  # fmt: skip
SCALED = scaled(
    ContextEncoder,
    _FEATURES,
    "resnet10 with a doubling decoder on images of 32 px.",
)
CALTECH101 = scaled(
    ContextEncoder, _FEATURES, "resnet10 with a doubling decoder on images of 96 px.", dataset=CALTECH
)
