"""Label efficiency: accuracy against the number of labels, and how many labels the encoder saves.

Three curves over the same balanced, nested sets of labels: a linear probe on this encoder, one on random
features, and the same network trained from scratch with those labels. For each number of labels N of the
encoder, the other two curves (made monotone, linear in log N) say how many labels they need for the same
accuracy, and the labels saved are the difference. The interval is a bootstrap over the test images, which all
curves share, and over the draws of the labels; a curve that ends below, or begins above, gives a bound, and the
row says so. Rows are called `label_efficiency@4`: four labels a class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from nolabel.data.store import ImageStore
from nolabel.encoders.base import Encoder
from nolabel.evaluation import _few, _kept
from nolabel.evaluation import _head_training as heads
from nolabel.evaluation._head_training import Plan, Setting
from nolabel.evaluation._ranges import COUNT, NOT_NEGATIVE, POSITIVE, hold
from nolabel.evaluation._repeats import differences, over_seeds
from nolabel.evaluation._split import Division
from nolabel.evaluation._untrained import untrained
from nolabel.evaluation.base import Features, Protocol, Result
from nolabel.evaluation.baselines import RANDOM_SEEDS, random_features
from nolabel.evaluation.supervised import SCRATCH
from nolabel.seeds import derive

RESAMPLES = 1000
TAIL = 0.025
"""of the resamples, on each side of the interval"""
FACTOR = 4
"""from one number of labels to the next"""

Curve = dict[int, list[Result]]
"""labels a class -> results"""


@dataclass(frozen=True)
class LabelEfficiencyOptions:
    """The points of the curves."""

    per_class: tuple[int, ...] | None = None
    """labels a class; by default 1, 4, 16 ... and all that the smallest class has, up to `most` in all"""
    most: int = 5000
    """labels in all that the default points end at"""
    draws: int = 3
    """of the labelled images, for the probes"""
    supervised_draws: int = 1
    """of the labelled images, for training from scratch; the noise of a single one is in no interval"""
    steps: int = 500
    """of training from scratch"""
    batch_size: int = 128
    """images a step of training from scratch"""
    lr: tuple[float, ...] = (0.1, 0.03, 0.3)
    """rates of training from scratch: the best on a fifth of the labels, the first where a class has one label"""
    choice_steps: int = 100
    """of each rate that is tried"""
    weight_decay: float = 5e-4
    """of training from scratch"""

    def __post_init__(self) -> None:
        hold(
            self,
            per_class=COUNT,
            most=COUNT,
            draws=COUNT,
            supervised_draws=COUNT,
            steps=COUNT,
            batch_size=COUNT,
            choice_steps=COUNT,
            lr=POSITIVE,
            weight_decay=NOT_NEGATIVE,
        )


class LabelEfficiency(Protocol):
    """See the module."""

    Options = LabelEfficiencyOptions
    options: LabelEfficiencyOptions
    protocol: ClassVar[str] = "label_efficiency"
    needs = "encoder"
    baseline_seeds = 0

    def check(self, store: ImageStore, division: Division) -> None:
        """DataError: more labels a class than a class has training images."""
        _few.check_each(store, division, self.options.per_class or ())

    def run(self, subject: Features, seed: int) -> list[Result]:
        """Accuracies of three subjects at each number of labels, the gain over random, and `labels_saved`.

        Random weights are probed in three starts. They, and training from scratch, do not depend on the weights of
        `subject`, so the cache keeps them for other encoders.

        Raises:
            RunError: features that are not finite, or the training diverged.
        """
        sizes, now = self.sizes(subject), _kept.behind(subject, seed)

        def beside(baseline: str, measured: Callable[[], Curve]) -> Curve:
            points = _kept.kept(now.path(baseline, self), lambda: list(measured().values()))
            return dict(zip(sizes, points, strict=True))

        own = self._probed(subject, sizes, seed)
        random = beside("random", lambda: self._random(now, sizes))
        scratch = beside("supervised", lambda: self._supervised(subject, sizes, seed))
        rows = [row for curve in (own, random, scratch) for point in curve.values() for row in point]
        truth = subject.labels[subject.test].numpy()
        rows += self._over_random(own, random, truth, seed)
        for other, starts in ((random, RANDOM_SEEDS), (scratch, 1)):
            rows += self._saved(own, other, starts, sizes, truth, seed)
        return rows

    def owns(self, name: str) -> bool:
        """Its points, which a number follows: `label_efficiency@4`."""
        return name.partition("@")[0] == self.protocol

    def sizes(self, subject: Features) -> dict[int, int]:
        """Labels a class -> labels in all, smallest first."""
        each = self.options.per_class
        if each is None:
            most = self.options.most // _few.classes_shown(subject)
            most = max(1, min(_few.smallest_class(subject), most))
            powers = [FACTOR**k for k in range(20) if FACTOR**k <= most]
            each = (*powers, most) if most >= 2 * powers[-1] else tuple(powers)
        return {k: _few.labels_of_each(subject, k) for k in sorted(each)}

    def _probed(self, subject: Features, sizes: dict[int, int], seed: int) -> Curve:
        orders = [_few.round_robin(subject, seed, draw) for draw in range(self.options.draws)]
        probed = _few.probes(subject, orders, list(sizes.values()), seed)
        found = {}
        for at, (each, size) in enumerate(sizes.items()):
            told = {"labels": size, "trained": "a linear probe on frozen features"} | _few.drawn(len(orders))
            name, of_draws = f"{self.protocol}@{each}", []
            for probe in (of[at] for of in probed):
                setting = told | {"converged": probe.converged}
                of_draws.append(heads.results(subject, name, probe.scores, seed, probe.chosen(), setting))
            found[each] = over_seeds(of_draws)
        return found

    def _random(self, now: _kept.Circumstances, sizes: dict[int, int]) -> Curve:
        """The probe on random features, the mean over three starts; predictions are (starts · draws, n)."""
        curves = [
            self._probed(
                random_features(
                    now.encoder,
                    now.store,
                    now.division,
                    size=now.size,
                    values=now.values,
                    seed=now.seed + start,
                ),
                sizes,
                now.seed,
            )
            for start in range(RANDOM_SEEDS)
        ]
        return {each: over_seeds([curve[each] for curve in curves]) for each in sizes}

    def _supervised(self, subject: Features, sizes: dict[int, int], seed: int) -> Curve:
        draws = range(self.options.supervised_draws)
        orders = {seed + draw: _few.round_robin(subject, seed, draw) for draw in draws}
        return {
            each: over_seeds(
                [
                    self._scratch(
                        replace(subject, train=order[:size], validation=None),
                        subject,
                        f"{self.protocol}@{each}",
                        own,
                    )
                    for own, order in orders.items()
                ]
            )
            for each, size in sizes.items()
        }

    def _scratch(self, few: Features, whole: Features, name: str, seed: int) -> list[Result]:
        """The net trained on the images of `few`; its statistics before training need no labels."""
        options, network = self.options, heads.network_of(whole)
        few = replace(few, name=f"{SCRATCH}{network.encoder.name}", seeds=(seed,))

        def start() -> Encoder:
            return untrained(network.encoder, network.store, whole.train, network.size, seed)

        plan = Plan(options.steps, options.batch_size)
        settings = [Setting(lr, options.weight_decay) for lr in options.lr]
        choice = heads.choose(few, start, settings, replace(plan, steps=options.choice_steps), seed)
        model = heads.train_classifier(few, start(), few.train, choice.setting, plan, seed)
        setting = {"labels": len(few.train), **plan.described(few)} | _few.drawn(options.supervised_draws)
        setting |= {"trained": "the whole net from scratch", "choice_steps": options.choice_steps}
        scores = heads.predict(model, few, few.test)
        return heads.results(few, name, scores, seed, choice.described(), setting)

    @staticmethod
    def _over_random(own: Curve, random: Curve, truth: np.ndarray, seed: int) -> list[Result]:
        """At each number of labels the paired difference from random features, the mean over their starts."""
        rows = []
        for each, mine in own.items():
            top1 = random[each][0]
            assert top1.predictions is not None
            of_starts = np.split(np.atleast_2d(top1.predictions), RANDOM_SEEDS)
            pairs = [[replace(top1, predictions=of_draws)] for of_draws in of_starts]
            rows += differences(mine, pairs, truth, seed)
        return rows

    def _saved(
        self, own: Curve, other: Curve, starts: int, sizes: dict[int, int], truth: np.ndarray, seed: int
    ) -> list[Result]:
        """Labels saved, by top-1, against `other`, whose predictions are those of each draw for each of `starts`."""
        first = next(iter(other.values()))[0]
        against = first.subject
        curve = np.stack([_hits(point[0], truth) for point in other.values()])
        draw = derive(seed, "evaluate", self.protocol, against)
        rows = []
        for each, size in sizes.items():
            point = own[each][0]
            found = saved(_hits(point, truth), size, curve, list(sizes.values()), draw, starts)
            setting = {"against": against, "labels": size, "range": found.text}
            setting |= {"draws": len(_hits(point, truth)), "draws_of_the_other": curve.shape[1] // starts}
            setting |= {"starts_of_the_other": starts}
            setting |= {"steps": first.setting["steps"]} if "steps" in first.setting else {}
            rows.append(
                replace(
                    point,
                    metric="labels_saved",
                    value=found.value,
                    low=found.low,
                    high=found.high,
                    chosen={},
                    setting=setting,
                    predictions=None,
                )
            )
        return rows


class Saved(NamedTuple):
    """A number of labels with its 95 % interval; an end is None where the measured curve does not reach so far."""

    value: float
    low: float | None
    high: float | None
    text: str


def saved(
    own: np.ndarray, size: int, curve: np.ndarray, sizes: Sequence[int], seed: int, starts: int = 1
) -> Saved:
    """Labels that a curve needs for the accuracy of `own`, minus `size`.

    The interval: test images are resampled, and draws weighed at random (`_draw_weights`), those of `own` and of a
    curve with as many draws alike, because they are the same labelled images. Starts of the curve's net are weighed
    at random too.

    Args:
        own: (draws, n), 1 where a test image is predicted right with `size` labels.
        curve: (points, starts · draws, n), the same for the curve, at `sizes` labels (ascending): all draws of one
            start, then of the next.
    """
    n, (least, most) = own.shape[1], (sizes[0], sizes[-1])
    random = np.random.default_rng(seed)
    weights = random.multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(np.float32) / n
    of_own = _draw_weights(len(own), random)
    draws = curve.shape[1] // starts
    of_draws = of_own if draws == len(own) else _draw_weights(draws, random)
    of_curve = (_draw_weights(starts, random)[:, :, None] * of_draws[:, None]).reshape(RESAMPLES, -1)
    accuracies = (of_own * (weights @ own.T)).sum(1)
    points = np.stack([(of_curve * (weights @ point.T)).sum(1) for point in curve], 1)
    drawn = [needed(accuracy, at, sizes) for accuracy, at in zip(accuracies, points, strict=True)]
    low, high = np.percentile(drawn, [100 * TAIL, 100 * (1 - TAIL)])
    beneath, above = (accuracies <= points[:, 0]).mean(), (accuracies > points.max(1)).mean()
    accuracy, means = own.mean(), curve.mean((1, 2))
    text = "within the measured numbers of labels"
    if accuracy > means.max():
        text = f"at least: with its {most:,} labels the other stays below"
    elif accuracy <= means[0]:
        text = f"at most: with {least:,} labels the other is as good or better"
    return Saved(
        needed(accuracy, means, sizes) - size,
        None if beneath > TAIL else float(low) - size,
        None if above > TAIL else float(high) - size,
        text,
    )


def needed(accuracy: float, points: np.ndarray, sizes: Sequence[int]) -> float:
    """Labels at which a curve through `points` (accuracies at `sizes`) reaches `accuracy`, within its ends.

    The curve is the running maximum of the points, linear in the logarithm of the number of labels.
    """
    rising = np.maximum.accumulate(points)
    at = int(np.searchsorted(rising, accuracy))
    if at == 0 or at == len(rising):
        return float(sizes[min(at, len(rising) - 1)])
    share = (accuracy - rising[at - 1]) / (rising[at] - rising[at - 1])
    return float(sizes[at - 1] * (sizes[at] / sizes[at - 1]) ** share)


def _draw_weights(draws: int, random: np.random.Generator) -> np.ndarray:
    """(RESAMPLES, draws), rows that add up to 1: the weighted mean varies as Student's t says of the draws' mean."""
    if draws == 1:
        return np.ones((RESAMPLES, 1))
    normal = random.standard_normal((RESAMPLES, draws))
    scale = np.sqrt(draws * random.chisquare(draws - 1, (RESAMPLES, 1)))
    return 1 / draws + (normal - normal.mean(1, keepdims=True)) / scale


def _hits(result: Result, truth: np.ndarray) -> np.ndarray:
    """For each draw which test images are right, float32 (draws, n)."""
    assert result.predictions is not None
    return np.atleast_2d(result.predictions == truth).astype(np.float32)
