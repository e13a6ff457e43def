"""What a comparison of methods on one set of images says, in sentences a person can act on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from nolabel.report._text import MINUS, SPACE, count, listed, percent, points
from nolabel.report.records import (
    BASELINES,
    METRICS_IN_WORDS,
    SUPERVISED,
    UNTRAINED,
    Record,
    Row,
    amount_of_labels,
    find,
    labels_in_words,
    leaks,
    measured_on,
    pooled,
)
from nolabel.report.verdict import (
    RIGHT,
    Gain,
    Tone,
    Verdict,
    by_classes,
    by_neighbours,
    by_preference,
    gain_over,
    otherwise_trained,
    read_by,
    together,
    untrained_row,
)

FEW_LABELS = {"linear": "a linear probe", "finetune": "fine-tuning"}
"""what reads the encoder with few labels; rows are called `linear@1%`"""
SAVED_AGAINST = {
    SUPERVISED: "the same network trained from scratch",
    UNTRAINED: "random weights of the same network",
}
"""what labels are saved against, the one to tell first"""
INTERVAL = f"95{SPACE}% interval"
COSTLY = {"few_labels": "the gain with few labels", "label_efficiency": "how many labels it saves"}
"""protocols that a comparison measures where it is asked to, and what they tell"""


@dataclass(frozen=True)
class Contender:
    """One method of the comparison."""

    record: Record
    """with the baselines that all runs share"""
    row: Row
    """its accuracy under the main protocol"""
    gain: Gain | None
    """over random weights; None where they were not measured"""
    by_classes: tuple[str, ...] = ()
    """why it is the mean over classes, where it is"""

    @property
    def name(self) -> str:
        return self.record.method_in_words

    @property
    def validation(self) -> float | None:
        """As `row`, on the part of the training images that choices were made on; None where there was none.

        The mean over draws of labels, where there were several.
        """
        value = self.row.chosen.get("validation_balanced" if self.row.metric == "balanced" else "validation")
        return fmean(value) if isinstance(value, list) else value


def compared(records: Sequence[Record]) -> Verdict:
    """The verdict over the runs of one comparison: the best, what is within noise of it, what does not help.

    Runs are ranked by the first protocol that all have (linear, kNN, others) on its validation part, so that the test
    images do not choose the run whose gain is then quoted on them; the best is the first that is shown to help.
    Better and worse mean what `shown` says of a paired test on the same test images, after Holm's correction for the
    number of methods. Of several sets of images the first is judged.
    """
    data = measured_on(records)[0]
    here = [replace(r, rows=rows) for r, rows in zip(records, pooled(records, data), strict=True)]
    measured, compared_by = _by_one_protocol(here)
    ranked = _ranked(measured)
    if not ranked:
        return Verdict(
            "unknown", "Nothing was measured", ("None of the runs has an accuracy on held-out images.",)
        )
    best = next((one for one in ranked if one.gain and one.gain.helped), ranked[0])
    rows, row = best.record.rows, best.row
    helped = best.gain is not None and best.gain.helped
    others = [
        found for name in BASELINES if (found := find(rows, name, row.protocol, row.metric)) is not None
    ]
    ahead = [other for other in others if other.value >= row.value]
    near = _near(ranked)
    sentences = [
        _best_sentence(best),
        *compared_by,
        *best.by_classes,
        *_chosen_by(ranked),
        *_few_labels(best),
        *_saved(best),
    ]
    sentences += _rest_sentences(best, [one for one in ranked if one is not best])
    sentences += [_near_sentence(near, ranked)] if near else []
    sentences += [
        f"{BASELINES[other.subject].capitalize()}, which needs no training, does at least as well with "
        f"{percent(other.value)}."
        for other in ahead
    ]
    sentences += [*otherwise_trained(rows, row), *leaks(rows), *_action(best, helped, ahead)]
    if not helped:
        return Verdict(
            *_none_helped(ranked, [name for name, gain in near.items() if gain.helped]), tuple(sentences)
        )
    title = f"{best.name} is the encoder to take"
    return Verdict("better", title + (", but a baseline does as well" if ahead else ""), tuple(sentences))


def _none_helped(ranked: Sequence[Contender], by_knn: Sequence[str]) -> tuple[Tone, str]:
    """Tone and title where the main protocol shows no gain; `by_knn` are the methods for which the kNN vote does."""
    here = (
        f"on these images by {read_by(ranked[0].row.protocol)}; by kNN {listed(by_knn)}"
        if by_knn
        else "on these images"
    )
    if all(one.gain is not None and one.gain.hurt for one in ranked):
        return "worse", f"Every method is worse than random weights {here}{' helped' if by_knn else ''}"
    return "unclear", f"No method was shown to help {here}{' did' if by_knn else ''}"


def _by_one_protocol(records: Sequence[Record]) -> tuple[list[tuple[Record, Row]], list[str]]:
    """Runs with their accuracy under the first protocol that all have, and what is said of those that lack one.

    Where none is shared by all, it is the one that most have, and the other runs are left out.
    """
    own = [(one, [row for row in one.rows if row.subject == one.subject and row.is_share]) for one in records]
    measured = [(one, {(row.protocol, row.metric): row for row in rows}) for one, rows in own if rows]
    best_first = by_preference([row for _, rows in own for row in rows])
    offered = list(dict.fromkeys((row.protocol, row.metric) for row in best_first))
    if not offered:
        return [], []
    chosen = max(offered, key=lambda kind: sum(kind in rows for _, rows in measured))
    told = []
    if chosen != offered[0]:
        lacking = [one.method_in_words for one, rows in measured if offered[0] not in rows]
        verb = "was" if len(lacking) == 1 else "were"
        told.append(
            f"Compared by {_kind(*chosen)}, because {listed(lacking)} {verb} not measured by {_kind(*offered[0])}."
        )
    without = [one.method_in_words for one, rows in measured if chosen not in rows]
    if without:
        told.append(f"Left out, because not measured by {_kind(*chosen)}: {listed(without)}.")
    return [(one, rows[chosen]) for one, rows in measured if chosen in rows], told


def _kind(protocol: str, metric: str) -> str:
    return read_by(protocol) + ("" if metric == "top1" else f" ({METRICS_IN_WORDS[metric]})")


def _ranked(measured: Sequence[tuple[Record, Row]]) -> list[Contender]:
    """The runs, best on the validation part first; on the test images where one has none."""
    found = [
        Contender(record, row, gain_over(record.rows, row, random) if random else None, tuple(why))
        for record, top1 in measured
        for row, why in [by_classes(record.rows, top1)]
        for random in [untrained_row(record.rows, row)]
    ]
    judged = iter(together([one.gain for one in found if one.gain is not None]))
    found = [one if one.gain is None else replace(one, gain=next(judged)) for one in found]
    by_validation = all(one.validation is not None for one in found)
    return sorted(found, key=lambda one: -(one.validation or 0.0) if by_validation else -one.row.value)


def _near(ranked: Sequence[Contender]) -> Mapping[str, Gain]:
    """Method -> its gain by the kNN vote beside the main protocol, where that was measured."""
    told = {one.name: near[0] for one in ranked if (near := by_neighbours(one.record.rows, one.row))}
    return dict(zip(told, together(list(told.values())), strict=True))


def _best_sentence(best: Contender) -> str:
    row, gain = best.row, best.gain
    ends = f" ({row.ends})" if row.ends else ""
    told = (
        f"On these images {best.name} names {percent(row.value)}{ends} of the test images {RIGHT[row.metric]}"
        f"{'' if row.protocol == 'linear' else f' by {read_by(row.protocol)}'}"
    )
    if gain is None:
        return (
            f"{told}; random weights were not measured beside it, so this does not show that training helped."
        )
    told += f": {gain.size} of the same network"
    if gain.helped:
        labels = "" if amount_of_labels(row.protocol) else ", with all labels"
        return f"{told}{labels} ({gain.evidence})."
    better = ": the untrained network is the better choice" if gain.hurt else ""
    return f"{told}, {gain.chance} ({gain.evidence}){better}."


def _chosen_by(ranked: Sequence[Contender]) -> list[str]:
    """Which images ranked the methods."""
    if len(ranked) < 2:
        return []
    if any(one.validation is None for one in ranked):
        return [
            "The methods are ranked by the test images themselves, because nothing else was kept of all of them: "
            "that flatters the best a little."
        ]
    return [
        "The methods are ranked by a part of the training images that was held back, not by the test images."
    ]


def _few_labels(best: Contender) -> list[str]:
    """The gains with few labels, where they were measured: a sentence for each head."""
    rows, told = best.record.rows, []
    for head, reader in FEW_LABELS.items():
        pairs = [
            (row, amount, gain_over(rows, row, random))
            for top1 in rows
            if (top1.subject, top1.metric) == (best.record.subject, "top1")
            and top1.protocol.startswith(f"{head}@")
            and (amount := amount_of_labels(top1.protocol))
            for row in by_classes(rows, top1)[:1]
            if (random := untrained_row(rows, row)) is not None
        ]
        gains = together([gain for *_, gain in pairs])
        amounts = [
            f"{points(gain.value)} {'more' if gain.value > 0 else 'less'}"
            f"{f' ({gain.ends})' if gain.ends else ''} with {labels_in_words(amount)}"
            f"{'' if gain.sure else f', {gain.chance}'}"
            for (_, amount, _), gain in zip(pairs, gains, strict=True)
        ]
        drawn = dict.fromkeys(row.setting["drawn"] for row, *_ in pairs if "drawn" in row.setting)
        if amounts:
            rests = f" ({'; '.join(drawn)})" if drawn else ""
            rests += ", averaged over the classes" * (pairs[0][0].metric == "balanced")
            told.append(f"With few labels, against random weights, by {reader}{rests}: {'; '.join(amounts)}.")
    return told


def _saved(best: Contender) -> list[str]:
    """The labels saved at equal accuracy, against training from scratch where that was measured.

    Of several numbers of labels, the largest for which the other reaches the same accuracy within its own; where
    there is none, the bound whose interval begins highest.
    """
    own = [r for r in best.record.rows if (r.subject, r.metric) == (best.record.subject, "labels_saved")]
    for prefix, other in SAVED_AGAINST.items():
        rows = [row for row in own if row.against.startswith(prefix)]
        within = [row for row in rows if str(row.setting["range"]).startswith("within")]
        if rows:
            row = max(within, key=_labels) if within else max(rows, key=_surely_saved)
            steps = f" for {count(row.setting['steps'])} steps" if "steps" in row.setting else ""
            return [
                _saved_sentence(
                    row, f"{other}{steps}", ", by the share of all test images," * bool(best.by_classes)
                )
            ]
    return []


def _surely_saved(row: Row) -> tuple[float, float]:
    return (-math.inf if row.low is None else row.low, row.value)


def _labels(row: Row) -> int:
    return int(row.setting["labels"])


def _saved_sentence(row: Row, other: str, judged_by: str) -> str:
    labels, needed = _labels(row), _labels(row) + row.value
    told = f"With {count(labels)} labels it is{judged_by} as good as {other} with"
    bound = str(row.setting["range"]).partition(":")[0]
    if bound == "at least":
        return f"{told} more than {count(needed)}, the most that were tried: {_at_least(row.low)}."
    if bound == "at most":
        return f"{told} {count(needed)} or fewer, the fewest that were tried: {_at_most(row.high)}."
    saves = row.value >= 0
    verb, (low, high) = ("saves", (row.low, row.high)) if saves else ("costs", (row.high, row.low))
    ends = [None if end is None else _whole(end if saves else -end) for end in (low, high)]
    between = (
        f"{ends[0]} to {ends[1]}" if all(ends) else f"from {ends[0]} up" if ends[0] else f"up to {ends[1]}"
    )
    interval = f" ({INTERVAL} {between})" if any(ends) else ""
    sure = low is not None and (low > 0 if saves else low < 0)
    chance = "" if sure else ", no more than chance explains"
    return f"{told} about {count(needed)}: it {verb} about {count(abs(row.value))} labels{interval}{chance}."


def _at_least(low: float | None) -> str:
    """What the interval's low end leaves of labels that are saved, where the other never gets as good."""
    if low is not None and low > 0:
        return f"it saves at least {count(low)} labels, the low end of the {INTERVAL}"
    if low == 0:
        return "it saves labels, and how many was not measured"
    end = f"the {INTERVAL} has no low end" if low is None else f"{INTERVAL} from {_whole(low)} up"
    return f"that it saves labels was not shown ({end})"


def _at_most(high: float | None) -> str:
    """What the interval's high end leaves of labels that are lost, where the other is as good with the fewest."""
    if high is not None and high < 0:
        return f"it costs at least {count(-high)} labels, the near end of the {INTERVAL}"
    if high == 0:
        return "it saves no labels"
    end = f"the {INTERVAL} has no high end" if high is None else f"{INTERVAL} up to {_whole(high)}"
    return f"that it saves none was not shown ({end})"


def _whole(labels: float) -> str:
    return count(labels).replace("-", MINUS)


def _rest_sentences(best: Contender, rest: Sequence[Contender]) -> list[str]:
    """Which others are as good as the best, which are behind or ahead, and which do not help or do harm."""
    lists: dict[str, list[str]] = {"equal": [], "behind": [], "ahead": [], "useless": [], "worse": []}
    against = together([gain_over(one.record.rows, one.row, best.row, best.name) for one in rest])
    for one, difference in zip(rest, against, strict=True):
        if one.gain is not None and one.gain.hurt:
            lists["worse"].append(f"{one.name} by {points(one.gain.value)}")
        elif one.gain is not None and not one.gain.helped:
            side = "above" if one.gain.value > 0 else "below"
            lists["useless"].append(f"{one.name} ({points(one.gain.value)} {side} random weights)")
        elif not difference.sure:
            lists["equal"].append(one.name)
        else:
            side = "ahead" if difference.value > 0 else "behind"
            lists[side].append(f"{one.name} by {points(difference.value)}")
    told = []
    if lists["equal"]:
        names, verb = listed(lists["equal"]), "is" if len(lists["equal"]) == 1 else "are"
        told.append(f"{names[0].upper()}{names[1:]} {verb} within noise of it.")
    if lists["behind"]:
        told.append(f"Behind it: {listed(lists['behind'])}.")
    if lists["ahead"]:
        told.append(f"Ahead of it on the test images, which did not rank them: {listed(lists['ahead'])}.")
    if lists["useless"]:
        told.append(f"Not shown to help here: {listed(lists['useless'])}.")
    if lists["worse"]:
        told.append(f"Worse than random weights: {listed(lists['worse'])}.")
    return told


def _near_sentence(near: Mapping[str, Gain], ranked: Sequence[Contender]) -> str:
    """Which methods help or do harm by the kNN vote, beside the main protocol."""
    kinds = (
        ("a gain over", [n for n in near if near[n].helped]),
        ("a loss against", [n for n in near if near[n].hurt]),
    )
    told = [
        f"{what} random weights of {listed(f'{name} by {points(near[name].value)}' for name in names)}"
        for what, names in kinds
        if names
    ]
    if told:
        return f"By the kNN vote, which fits nothing to the features, there is {listed(told)}."
    whom = "any of them" if len(near) == len(ranked) else listed(near)
    either = "" if any(one.gain is not None and one.gain.helped for one in ranked) else " either"
    return f"The kNN vote, which fits nothing to the features, shows no gain of {whom}{either}."


def _action(best: Contender, helped: bool, ahead: Sequence[Row]) -> list[str]:
    """What to do now, and by which command to learn what was not measured."""
    if not helped:
        return [
            "Train longer, or on more images, before you use any of these encoders; or use the simplest baseline."
        ]
    measured = {"few_labels": _few_labels(best), "label_efficiency": _saved(best)}
    missing = [what for name, what in COSTLY.items() if not measured[name]]
    told = [f'Use it: encoder = nolabel.load_encoder("{best.record.folder}").']
    if ahead:
        told = ["Before you use the encoder, ask whether the baseline is not enough."]
    if missing:
        told.append(
            f"To learn {listed(missing)} as well: nolabel compare with --protocols linear,knn,{','.join(COSTLY)} (and "
            "the same --out, so that nothing is trained again)."
        )
    return told
