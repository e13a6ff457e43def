"""Probe: logistic regression against scikit-learn's, the whole L2 sweep against one fit, features against the encoder.

50,000 × 512 standardised features of ten classes, float32. Both fits minimise J = (1/n) Σ CE + (λ/2)‖W‖² (C = 1/(nλ)
for scikit-learn) until the gradient is 1e-4 of its norm at zero: the whole gradient's norm for ours, its largest entry,
which is reached earlier, for scikit-learn's. `extra` has both objectives, computed in float64.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.pairs import Row, compare
from nolabel.data.store import ImageStore
from nolabel.encoders.base import build
from nolabel.evaluation._features import BATCH, extract
from nolabel.evaluation._logistic import Fit, Problem, minimise, standardise, sweep
from nolabel.evaluation._split import divide
from nolabel.evaluation.linear import l2_values
from nolabel.memory import keep_freed
from nolabel.seeds import generator
from nolabel.views import plain

N, VALUES, CLASSES = 50_000, 512, 10
L2 = 1e-4
TOLERANCE = 1e-4
SIDE, ENCODER, IMAGES = 32, "resnet10", 8 * BATCH


def features() -> tuple[Tensor, Tensor]:
    """Standardised x (N, 512) with a decaying spectrum, and labels that a noisy linear rule gives."""
    random = generator(0, "probe")
    scale = torch.arange(1, VALUES + 1) ** -0.75
    x = (torch.randn(N, VALUES, generator=random) * scale) @ torch.randn(VALUES, VALUES, generator=random)
    x = (x + x.std() / 2).relu_()
    standardise(x, N)
    scores = x @ torch.randn(VALUES, CLASSES, generator=random) / VALUES**0.5
    noise = -torch.log(-torch.log(torch.rand(N, CLASSES, generator=random).clamp(1e-6, 1 - 1e-6)))
    return x, (2 * scores + noise).argmax(1)


def objective(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, l2: float) -> float:
    """J in float64."""
    weight, bias = weight.double(), bias.double()
    loss = sum(
        float(F.cross_entropy(F.linear(rows.double(), weight, bias), labels, reduction="sum"))
        for rows, labels in zip(x.split(4096), y.split(4096), strict=True)
    )
    return loss / len(x) + 0.5 * l2 * float(weight.square().sum())


def against_scikit_learn(x: Tensor, y: Tensor, pairs: int) -> Row:
    from sklearn.linear_model import LogisticRegression

    aim = TOLERANCE * Problem(x, y, CLASSES).start
    found: dict[str, float] = {}

    def ours() -> int:
        fit = minimise(Problem(x, y, CLASSES), L2, tolerance=TOLERANCE)[0]
        found["ours"] = objective(x, y, fit.weight, fit.bias, L2)
        found["our_iterations"] = fit.iterations
        return 1

    def theirs() -> int:
        model = LogisticRegression(C=1 / (len(x) * L2), tol=aim, max_iter=10_000).fit(x.numpy(), y.numpy())
        weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
        found["theirs"] = objective(x, y, weight, bias, L2)
        found["their_iterations"] = int(model.n_iter_[0])
        return 1

    name = f"logistic regression, {N:,} × {VALUES}, {CLASSES} classes, λ = {L2:g}"
    row = compare(
        name, ("nolabel", ours), ("scikit-learn LogisticRegression", theirs), pairs=pairs, unit="fits/s"
    )
    return replace(row, extra=row.extra | found)


def against_one_fit(x: Tensor, y: Tensor, pairs: int) -> Row:
    """Rates of values of λ: one fit from zero at the smallest λ, the hardest, against all 45 in a sweep."""
    grid = l2_values("full")

    def whole() -> int:
        fits: list[Fit] = list(sweep(Problem(x, y, CLASSES), grid, tolerance=TOLERANCE))
        return len(fits)

    def single() -> int:
        minimise(Problem(x, y, CLASSES), grid[-1], tolerance=TOLERANCE)
        return 1

    name = f"sweep of {len(grid)} values of λ, {N:,} × {VALUES}"
    row = compare(name, ("nolabel, sweep", whole), ("its hardest fit", single), pairs=pairs, unit="values/s")
    return replace(row, extra=row.extra | {"sweep_over_hardest_fit": len(grid) / row.ratio})


def against_the_forward(data: str, pairs: int) -> Row:
    """Pooled features of stored images against the encoder alone, on the same images ready in memory."""
    store = ImageStore.open(data, size=SIDE)
    torch.manual_seed(0)
    encoder = build(ENCODER, SIDE).eval()
    division, indices = divide(store, 0), torch.arange(IMAGES)
    encoder.to(memory_format=torch.channels_last)
    ready = plain.whole(store.batch(indices), SIDE, torch.channels_last)

    def ours() -> int:
        extract(encoder, store, division, name=ENCODER, stages=()).compute(("pooled",), indices)
        return IMAGES

    @torch.no_grad()
    def bare() -> int:
        for part in ready.split(BATCH):
            encoder(part)
        return IMAGES

    what = f"features, {ENCODER}, {SIDE} px"
    return compare(
        what, ("nolabel, from stored images", ours), ("the bare forward", bare), pairs=pairs, unit="images/s"
    )


def rows(data: str, pairs: int) -> Iterator[Row]:
    """The comparisons, each when it is done; fits of a minute are paired three times at most."""
    keep_freed()
    warnings.filterwarnings("ignore", module="sklearn")
    work: tuple[Callable[[], Row], ...] = (
        lambda: against_the_forward(data, pairs),
        lambda: against_scikit_learn(*features(), min(pairs, 3)),
        lambda: against_one_fit(*features(), min(pairs, 3)),
    )
    for measure in work:
        yield measure()
