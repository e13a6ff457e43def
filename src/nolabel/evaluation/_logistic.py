"""Multinomial logistic regression by preconditioned L-BFGS.

J(W, b) = (1/n) Σ cross-entropy + (λ/2)‖W‖², bias free, start at 0 (a library that minimises C·Σ CE + ½‖W‖² has
C = 1/(nλ)). L-BFGS starts each step from the inverse of c·Cov(x) + λI in place of a multiple of the identity: close to
the Hessian (Böhning 1992 bounds it by the same matrix with c = ½), so that ill-conditioned features cost tens of
iterations and not thousands. The minimum is that of J, whatever the preconditioner.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MEMORY = 20
ROWS = 256
"""rows of a block: it is read once for the logits and found in the cache for the gradient"""
ARMIJO = 1e-4


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
        """Scores of x (n, D): (n, C), a block of rows at a time."""
        blocks = [F.linear(b.to(self.weight.dtype), self.weight, self.bias) for b in x.split(8 * ROWS)]
        return torch.cat(blocks)


class Problem:
    """J for one feature matrix, in centred coordinates (which leave W and the minimum as they are).

    Args:
        x: (n, D), any floating type; it is read in blocks and never copied.
        y: int64 (n,) in [0, classes)
        dtype: float32 or float64, of the parameters and the arithmetic.
    """

    def __init__(self, x: Tensor, y: Tensor, classes: int, dtype: torch.dtype = torch.float32) -> None:
        self.x, self.y, self.classes, self.dtype = x, y, classes, dtype
        self.n, self.dim = x.shape
        self.mean = column_mean(x).to(dtype)
        self._covariance: Tensor | None = None

    def zero(self) -> Tensor:
        """Parameters (C, D + 1), the bias last, all 0."""
        return torch.zeros(self.classes, self.dim + 1, dtype=self.dtype, device=self.x.device)

    def value_and_gradient(self, theta: Tensor, l2: float) -> tuple[float, Tensor]:
        """J and its gradient (C, D + 1) at `theta`."""
        weight = theta[:, :-1]
        bias = theta[:, -1] - weight @ self.mean
        loss = torch.zeros((), dtype=torch.float64, device=theta.device)
        gradient = torch.zeros_like(theta)
        for rows, labels in zip(self.x.split(ROWS), self.y.split(ROWS), strict=True):
            rows = rows.to(self.dtype)
            log_p = F.log_softmax(F.linear(rows, weight, bias), 1)
            column = labels[:, None]
            loss -= log_p.gather(1, column).sum()
            residual = log_p.exp_().scatter_add_(1, column, column.new_full(column.shape, -1, dtype=self.dtype))
            gradient[:, :-1].addmm_(residual.T, rows)
            gradient[:, -1] += residual.sum(0)
        gradient /= self.n
        gradient[:, :-1] -= gradient[:, -1:] * self.mean
        gradient[:, :-1] += l2 * weight
        return float(loss) / self.n + 0.5 * l2 * float(weight.square().sum()), gradient

    def factor(self, l2: float, curvature: float) -> Tensor:
        """Cholesky factor (D, D) of `curvature` · Cov(x) + λI, from up to 2 D + 1,024 rows."""
        if self._covariance is None:
            stride = max(1, self.n // (2 * self.dim + 1024))
            some = self.x[::stride].to(self.dtype) - self.mean
            self._covariance = some.T @ some / len(some)
        matrix = curvature * self._covariance
        floor = max(l2, 10 * torch.finfo(self.dtype).eps * float(matrix.diagonal().sum()))
        while True:
            matrix.diagonal().add_(floor)
            factor, failed = torch.linalg.cholesky_ex(matrix)
            if not failed:
                return factor
            floor *= 9  # rounding made it indefinite: tenfold in all


def minimise(
    problem: Problem, l2: float, start: Tensor | None = None, *, tolerance: float = 1e-4, limit: int = 1000
) -> tuple[Fit, Tensor]:
    """The minimum of J at λ = `l2`, and its parameters to start the next λ from.

    Stops when the gradient's norm is `tolerance` times its norm at zero, or after `limit` iterations (the fit then
    says `converged=False`, as it does when rounding leaves no descent).
    """
    zero = problem.zero()
    aim = tolerance * float(problem.value_and_gradient(zero, l2)[1].norm()) 
    theta = zero if start is None else start
    value, gradient = problem.value_and_gradient(theta, l2)
    curvature = (1 - 1 / problem.classes) / problem.classes
    factor = problem.factor(l2, curvature)

    def precondition(v: Tensor) -> Tensor:
        solved = torch.empty_like(v)
        solved[:, :-1] = torch.cholesky_solve(v[:, :-1].T, factor).T
        solved[:, -1] = v[:, -1] / curvature
        return solved

    pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=MEMORY)
    scale, iteration = 1.0, 0
    while float(gradient.norm()) > aim and iteration < limit:
        direction = -_two_loop(gradient, pairs, lambda v: scale * precondition(v))
        moved = _backtrack(problem, l2, theta, value, gradient, direction)
        if moved is None:
            break
        new_theta, value, new_gradient = moved
        step, change = new_theta - theta, new_gradient - gradient
        product = float((step * change).sum())
        if product > 0:
            pairs.append((step, change, product))
            scale = product / float((change * precondition(change)).sum())
        theta, gradient = new_theta, new_gradient
        iteration += 1
        if VERBOSE: print(iteration, value, float(gradient.norm())/aim, scale)
    weight = theta[:, :-1].clone()
    bias = theta[:, -1] - weight @ problem.mean
    converged = float(gradient.norm()) <= aim
    return Fit(l2, weight, bias, value, iteration, converged), theta

VERBOSE=False

def _two_loop(gradient, pairs, initial):
    q, factors = gradient.clone(), []
    for step, change, product in reversed(pairs):
        factors.append(float((step * q).sum()) / product)
        q -= factors[-1] * change
    q = initial(q)
    for (step, change, product), a in zip(pairs, reversed(factors), strict=True):
        q += (a - float((change * q).sum()) / product) * step
    return q


def _backtrack(problem, l2, theta, value, gradient, direction):
    slope = float((gradient * direction).sum())
    length = 1.0
    while length > 1e-6:
        new = theta + length * direction
        new_value, new_gradient = problem.value_and_gradient(new, l2)
        if new_value <= value + ARMIJO * length * slope:
            return new, new_value, new_gradient
        length /= 2
    return None


def column_mean(x: Tensor) -> Tensor:
    total = sum(block.sum(0, dtype=torch.float64) for block in x.split(8 * ROWS))
    return total / len(x)
