"""How a number was measured, in the words of a table's caption."""

from collections.abc import Mapping, Sequence
from typing import Any

from nolabel.report._text import in_words, setting_by

PRECISIONS = {
    "32-true": "float32",
    "bf16-mixed": "bfloat16 autocast",
    "16-mixed": "float16 autocast",
    "64-true": "float64",
}
NAMES = {
    "train_images": "training images",
    "choice_images": "of these for choosing",
    "values": "values per image",
    "standardise": "features",
    "nmi_norm": "NMI normalised by",
    "labels_a_class": "labels per class",
    "test_images_a_class": "test images per class",
    "lr": "learning rate",
    "batch_size": "images per step",
    "augment": "training views",
    "precision": "computed in",
    "chosen_by": "settings chosen by",
    "choice_steps": "steps of each setting that was tried",
    "unfrozen_steps": "steps with the encoder unfrozen",
    "head_parameters": "parameters of the head",
    "drawn": "that is",
    "starts_of_the_other": "starts of what it is compared with",
    "draws_of_the_other": "draws of labels of what it is compared with",
    "options": "options set",
}
"""keys of `Row.setting` that need other words"""
VALUES: Mapping[str, Mapping[str, str]] = {
    "precision": PRECISIONS,
    "standardise": {
        "train_stats": "standardised by their mean and deviation over the training images",
        "none": "as they are",
    },
    "chosen_by": {"top1": "top-1 accuracy", "balanced": "accuracy averaged over the classes"},
    "augment": {
        "crop": "random crops and flips",
        "shift": "small shifts and flips",
        "none": "the whole image",
    },
}
"""key -> its values that need other words"""
RANGES = ("labels_a_class", "test_images_a_class")
"""keys whose values are the smallest and the largest number"""
UNTOLD = (
    *("data", "from_cache", "circumstances", "labels", "iterations", "objective", "converged"),
    *("of_seeds", "verdict", "against", "range", "curve"),
)
"""keys of `Row.setting` that are told elsewhere or to nobody but a machine"""


def told_names(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of `settings` that a caption tells, in their order."""
    return [name for name in dict.fromkeys(name for one in settings for name in one) if name not in UNTOLD]


def setting_in_caption(name: str, values: Sequence[Any], *labels: Sequence[str]) -> str:
    """`learning rate: 0.1`, or whose is which by the first of `labels` that tells the values apart."""
    called = NAMES.get(name, name).replace("_", " ")
    return setting_by(called, [value_in_words(name, value) for value in values], *labels)


def value_in_words(name: str, value: Any) -> str:
    """A value of the setting `name`: `[1, 1]` labels a class -> 1; `bf16-mixed` -> bfloat16 autocast."""
    if name in RANGES and isinstance(value, list | tuple):
        ends = list(dict.fromkeys(in_words(end) for end in value))
        return " to ".join(ends)
    return VALUES.get(name, {}).get(value, in_words(value)) if isinstance(value, str) else in_words(value)
