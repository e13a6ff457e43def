"""Context prediction again.

Paper (section 3.1 and the released code): patches of 96 px, AlexNet with late fusion, ImageNet for four weeks of a GPU.
Scaled: patches of 12 px, `resnet10`, ten minutes on two cores. The published rows are detection and normals on PASCAL
and NYU, which are not measured here: they stand apart.

Settings: command; length; hardware; result (by tools/method_pages.py).

- `nolabel reproduce context-prediction-paper DATA`: 80 epochs; about 40,000 minutes (four weeks) of a K40 in the
  paper; not run.
- `nolabel reproduce context-prediction-scaled cifar10.zip`: 10 minutes; two cores of a processor; linear 63.6 %,
  kNN 38.2 %, loss 1.681 (chance 2.08), accuracy 0.3789 (chance 0.125); one seed, 10 minutes on AMD EPYC, 2 threads,
  bfloat16, 2026-11-27.
- `nolabel reproduce context-prediction-caltech101 caltech101.zip`: 10 minutes; two cores of a processor; not run.
"""

from nolabel.methods.context_prediction import PAPER_IMAGENET, ContextPrediction
from nolabel.recipes import CALTECH, IMAGENET, Reproduction, scaled

_BESIDE = (
    "Context Prediction task", "Context Prediction discovery", "Context Prediction detection",
    "Context Prediction normals", "Split-brain linear", "Revisiting",
)  # fmt: skip
PAPER = Reproduction(
    method="context_prediction", encoder="alexnet_context", size=387, dataset=IMAGENET, length={"epochs": 80},
    options=PAPER_IMAGENET[0], recipe=PAPER_IMAGENET[1], protocols=("linear", "discovery"), beside=_BESIDE,
    deviations=(
        "A linear probe and clusters of patches are measured; the paper's table is detection on PASCAL.",
        "One scale is drawn for all images of a step, where each image has its own.",
        "Photographs are stored at 1.25 times the size and enlarged from there.",
        "Patches are not multiplied by 50, as they are in the code.",
        "Weights start from He's normal distribution (conv1, conv2) and as torch's do, not from Xavier's.",
    ),
    hardware="about 40,000 minutes (four weeks) of a K40 in the paper",
)  # fmt: skip
SCALED = scaled(ContextPrediction, _BESIDE, "resnet10 on patches of 12 px of images of 32 px.")
CALTECH101 = scaled(
    ContextPrediction,
    _BESIDE,
    "resnet10 on patches of 16 px with gaps of 8, of images of 96 px.",
    dataset=CALTECH,
)
