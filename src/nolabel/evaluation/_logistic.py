"""Logistic regression by preconditioned L-BFGS: multinomial, or one binary classifier for each of many tags.

J(W, b) = (1/n) Σ cross-entropy + (λ/2)‖W‖², bias free, start at 0 (a library that minimises C·Σ CE + ½‖W‖²
has C = 1/(nλ)); with tags the cross-entropies of all classes are added. Each L-BFGS step starts from a
multiple of (c·Cov(x) + λI)⁻¹ in place of the identity. Böhning (1992) bounds the Hessian by that matrix with
c = ½, so ill-conditioned features cost tens of iterations and not thousands. The minimum is that of J,
whatever the preconditioner.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

MEMORY = 20
"""pairs that L-BFGS remembers"""
ROWS = 512
"""rows of a block: read once for the logits, and found in the cache for the gradient"""
ARMIJO = 1e-4
SHORTEST = 1e-6
"""step below which rounding, and not the direction, is what stops the descent"""
FASTEST = 2.0
"""largest factor by which the next change of a sweep is guessed from the last"""
REUSED = 4.0
"""a preconditioner serves a λ down to this many times smaller: its factorisation costs as much as many steps"""


@dataclass(frozen=True)
class Fit:
    """A minimum of J at one λ."""

    l2: float
    weight: Tensor
    """(C, D)"""
    bias: Tensor
    """(C,)"""
    objective: float
    iterations: int
    converged: bool

    def logits(self, x: Tensor) -> Tensor:
        """Scores (n, C) of x (n, D)."""
        parts = [F.linear(rows.to(self.weight.dtype), self.weight, self.bias) for rows in x.split(4 * ROWS)]
        return torch.cat(parts)


class Problem:
    """J for one feature matrix, in centred coordinates (they leave W and the minimum as they are).

    Args:
        x: (n, D), any floating type; read in blocks, never copied.
        y: int64 (n,) in [0, classes), or tags (n, classes): 1 has the class, 0 has not, -1 is ignored.
        dtype: float32 or float64: of the parameters and the arithmetic.
        loss: "squared_hinge": max(0, 1 − m)² of every class's margin m in place of the cross-entropy (y (n,)), a
            linear SVM for each class against all others.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        classes: int,
        dtype: torch.dtype = torch.float32,
        loss: Literal["cross_entropy", "squared_hinge"] = "cross_entropy",
    ) -> None:
        self.x, self.y, self.classes, self.dtype = x, y, classes, dtype
        self.n, self.dim = x.shape
        self.mean = moments(x)[0].to(dtype)
        if loss == "squared_hinge":
            self.loss, self.curvature = _hinge_loss, 2.0
        elif y.dim() == 1:
            self.loss, self.curvature = _softmax_loss, (1 - 1 / classes) / classes
        else:
            self.loss, self.curvature = _sigmoid_loss, 0.25
        self._gram: tuple[Tensor | None, Tensor] | None = None
        self._factor: tuple[float, Tensor, float] | None = None

    def zero(self) -> Tensor:
        """Parameters (C, D + 1), the bias last, all 0."""
        return torch.zeros(self.classes, self.dim + 1, dtype=self.dtype, device=self.x.device)

    @cached_property
    def start(self) -> float:
        """Norm of the gradient at zero, the same for every λ."""
        return float(self.value_and_gradient(self.zero(), 0.0)[1].norm())

    def value_and_gradient(self, theta: Tensor, l2: float) -> tuple[float, Tensor]:
        """J and its gradient (C, D + 1) at `theta`."""
        weight = theta[:, :-1]
        bias = theta[:, -1] - weight @ self.mean
        loss = 0.0
        gradient = torch.zeros_like(weight)
        residuals = torch.zeros_like(bias)
        for rows, labels in zip(self.x.split(ROWS), self.y.split(ROWS), strict=True):
            rows = rows.to(self.dtype)
            of_block, residual = self.loss(F.linear(rows, weight, bias), labels)
            loss += of_block
            gradient.addmm_(residual.T, rows)
            residuals += residual.sum(0)
        gradient.sub_(torch.outer(residuals, self.mean)).div_(self.n).add_(weight, alpha=l2)
        value = loss / self.n + 0.5 * l2 * float(weight.square().sum())
        return value, torch.cat([gradient, residuals[:, None] / self.n], 1)

    def preconditioner(self, l2: float) -> Callable[[Tensor], Tensor]:
        """v (C, D + 1) -> (c·Cov(x) + λI)⁻¹ v, the covariance from up to 2 D + 1,024 rows.

        c is the curvature of the loss at zero: (1 − 1/C)/C for the softmax, ¼ for tags, 2 for the hinge. With
        fewer rows than columns, the small matrix of Woodbury's identity is factored instead. λ may be one
        used just before, if not far above.
        """
        if self._gram is None:
            rows = self.x[:: max(1, self.n // (2 * self.dim + 1024))].to(self.dtype) - self.mean
            rows *= (self.curvature / len(rows)) ** 0.5
            few = len(rows) < self.dim
            self._gram = (rows, rows @ rows.T) if few else (None, rows.T @ rows)
        some, gram = self._gram
        if self._factor is None or not l2 <= self._factor[0] <= REUSED * l2:
            self._factor = (l2, *_cholesky(gram, l2))
        _, factor, ridge = self._factor

        def solve(v: Tensor) -> Tensor:
            weight = v[:, :-1]
            if some is None:
                solved = torch.cholesky_solve(weight.T, factor).T
            else:
                solved = (weight - torch.cholesky_solve(F.linear(some, weight), factor).T @ some) / ridge
            return torch.cat([solved, v[:, -1:] / self.curvature], 1)

        return solve


def _softmax_loss(scores: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Cross-entropy of a block, and its derivative by the scores (n, C)."""
    column = labels[:, None]
    log_p = F.log_softmax(scores, 1)
    loss = -float(log_p.gather(1, column).sum())
    residual = log_p.exp_()
    residual.scatter_add_(1, column, torch.full_like(column, -1, dtype=scores.dtype))
    return loss, residual


def _sigmoid_loss(scores: Tensor, tags: Tensor) -> tuple[float, Tensor]:
    """Binary cross-entropy of a block, added over classes, and its derivative by the scores (n, C)."""
    known = (tags >= 0).to(scores.dtype)
    wanted = tags.clamp_min(0).to(scores.dtype)
    loss = float((F.binary_cross_entropy_with_logits(scores, wanted, reduction="none") * known).sum())
    return loss, (scores.sigmoid() - wanted) * known


def _hinge_loss(scores: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Squared hinge of a block, added over classes, and its derivative by the scores (n, C)."""
    signs = torch.full_like(scores, -1).scatter_(1, labels[:, None], 1)
    short = (1 - signs * scores).clamp_min_(0)
    return float(short.square().sum()), short.mul_(signs).mul_(-2)


def _cholesky(gram: Tensor, l2: float) -> tuple[Tensor, float]:
    """Factor of `gram` + ridge·I, and the ridge: λ, or what rounding needs for a definite matrix."""
    ridge = max(l2, 10 * torch.finfo(gram.dtype).eps * float(gram.diagonal().sum()))
    while True:
        matrix = gram.clone()
        matrix.diagonal().add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not failed:
            return factor, ridge
        ridge *= 10


def minimise(
    problem: Problem, l2: float, start: Tensor | None = None, *, tolerance: float = 1e-4, limit: int = 1000
) -> tuple[Fit, Tensor]:
    """The minimum of J at λ = `l2`, and its parameters, for the next λ to start from.

    Stops when the gradient's norm is `tolerance` times its norm at zero or less, or after `limit` iterations;
    the fit says `converged=False` then, and where rounding left no descent.
    """
    aim = tolerance * problem.start
    theta = problem.zero() if start is None else start
    value, gradient = problem.value_and_gradient(theta, l2)
    precondition = problem.preconditioner(l2)
    pairs: deque[_Pair] = deque(maxlen=MEMORY)
    solved = precondition(gradient)
    scale, iterations = 1.0, 0
    while float(gradient.norm()) > aim and iterations < limit:
        direction = -_two_loop(gradient, solved, pairs, scale)
        moved = _backtrack(problem, l2, theta, value, gradient, direction)
        if moved is None:
            break
        new_solved = precondition(moved[2])
        pair = _Pair(moved[0] - theta, moved[2] - gradient, new_solved - solved)
        if pair.product > 0:
            pairs.append(pair)
            scale = pair.product / float((pair.change * pair.solved).sum())
        theta, value, gradient = moved
        solved = new_solved
        iterations += 1
    weight = theta[:, :-1].clone()
    bias = theta[:, -1] - weight @ problem.mean
    return Fit(l2, weight, bias, value, iterations, float(gradient.norm()) <= aim), theta


def sweep(problem: Problem, l2s: Sequence[float], *, tolerance: float) -> Iterator[Fit]:
    """The minimum at each of `l2s`, largest first, each fit starting where the ones before it point.

    Values of λ in equal ratios give minima whose changes grow or shrink by a nearly constant factor (by that
    ratio itself where λ is large), so the next change is the last one times the last factor.
    """
    start = theta = problem.zero()
    change = None
    for l2 in l2s:
        fit, new = minimise(problem, l2, start, tolerance=tolerance)
        moved, size = new - theta, 0.0 if change is None else float(change.square().sum())
        factor = float((moved * change).sum()) / size if change is not None and size else 0.0
        theta, change = new, moved
        start = theta + min(max(factor, 0.0), FASTEST) * moved
        yield fit


class _Pair:
    """One step of L-BFGS: the move, the change of the gradient, and that change preconditioned."""

    def __init__(self, step: Tensor, change: Tensor, solved: Tensor) -> None:
        self.step, self.change, self.solved = step, change, solved
        self.product = float((step * change).sum())


def _two_loop(gradient: Tensor, solved: Tensor, pairs: deque[_Pair], scale: float) -> Tensor:
    """The inverse Hessian of L-BFGS times `gradient` (Nocedal 1980); `solved` is the preconditioned gradient.

    The preconditioner is linear, so one solve an iteration is enough: what the first loop subtracts from the
    gradient is subtracted, preconditioned, from `solved`.
    """
    q, r, factors = gradient.clone(), solved.clone(), []
    for pair in reversed(pairs):
        factors.append(float((pair.step * q).sum()) / pair.product)
        q -= factors[-1] * pair.change
        r -= factors[-1] * pair.solved
    r *= scale
    for pair, factor in zip(pairs, reversed(factors), strict=True):
        r += (factor - float((pair.change * r).sum()) / pair.product) * pair.step
    return r


def _backtrack(
    problem: Problem, l2: float, theta: Tensor, value: float, gradient: Tensor, direction: Tensor
) -> tuple[Tensor, float, Tensor] | None:
    """The first of the steps 1, ½, ¼ … that descends enough (parameters, J, gradient); None: none does."""
    slope = float((gradient * direction).sum())
    rounding = 4 * torch.finfo(problem.dtype).eps * abs(value)
    length = 1.0
    while length > SHORTEST:
        new = theta + length * direction
        new_value, new_gradient = problem.value_and_gradient(new, l2)
        if new_value <= value + ARMIJO * length * slope + rounding:
            return new, new_value, new_gradient
        length /= 2
    return None


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column of x (n, D), float64, in blocks.

    The deviation of a constant column is given as 1.
    """
    shift = x[: 4 * ROWS].double().mean(0)
    total, squares = torch.zeros_like(shift), torch.zeros_like(shift)
    for rows in x.split(4 * ROWS):
        moved = rows.double() - shift
        total += moved.sum(0)
        squares += moved.square().sum(0)
    mean = total / len(x)
    std = (squares / len(x) - mean.square()).clamp_min(0).sqrt()
    mean = mean + shift
    return mean, std.masked_fill(std <= 1e-6 * mean.abs() + 1e-12, 1.0)


def standardise(x: Tensor, train: int) -> None:
    """Centre and scale the columns of x (n, D), in place, by the statistics of its first `train` rows."""
    mean, std = moments(x[:train])
    for rows in x.split(8 * ROWS):
        rows.sub_(mean.to(x.dtype)).div_(std.to(x.dtype))
