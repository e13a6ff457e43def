"""The learning rate of every step, as pure functions of the step."""

import math

from nolabel.methods.base import Recipe


def peak_rate(recipe: Recipe) -> float:
    """The highest rate of the run: `recipe.lr` taken from batch `lr_batch` to `batch_size` by `lr_rule`."""
    ratio = recipe.batch_size / recipe.lr_batch
    factor = {"fixed": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[recipe.lr_rule]
    return recipe.lr * factor


def rate(step: int, total: int, recipe: Recipe, start: int = 0) -> float:
    """Learning rate of `step` in a run of `total` steps.

    A linear rise from 0 over the first `recipe.warmup` of the run (step 0 has rate 0, as in SimCLR's code), then
    "cosine" to 0 without restarts, "step" (divided by `drop_factor` after each share in `drops`), or "constant".
    A run that was extended at step `start` follows the schedule of its new total, after another rise over the
    `recipe.warmup` of the added steps.
    """
    peak, warm = peak_rate(recipe), round(recipe.warmup * total)
    if step < warm:
        value = peak * step / warm
    elif recipe.schedule == "cosine":
        value = peak * (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2
    elif recipe.schedule == "step":
        value = peak / recipe.drop_factor ** sum(step >= round(share * total) for share in recipe.drops)
    else:
        value = peak
    again = round(recipe.warmup * (total - start)) if start else 0
    return value * min(1.0, (step - start) / again) if again else value
