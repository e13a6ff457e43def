"""What a comparison of methods on one set of images says, in sentences a person can act on."""

from collections.abc import Mapping, Sequence

from nolabel.report._text import interval, listed, number, percent, points
from nolabel.report.records import BASELINES, Record, Row, find
from nolabel.report.verdict import (
    READERS,
    SIGNIFICANT,
    Gain,
    Verdict,
    bought,
    by_neighbours,
    main_row,
    paired_difference,
    untrained_row,
)


def compared(records: Sequence[Record]) -> Verdict:
    """The verdict over the runs of one comparison: the best, what is within noise of it, what does not help.

    Runs are ranked by the main protocol (linear where it was measured), and called better or worse only where a
    paired test on the same test images has p < 0.05.
    """
    ranked = sorted(_measured(records), key=lambda pair: -pair[1].value)
    if not ranked:
        return Verdict(
            "unknown", "Nothing was measured", ("None of the runs has an accuracy on held-out images.",)
        )
    (best, row), rest = ranked[0], ranked[1:]
    random = untrained_row(best.rows, row)
    gain = paired_difference(best.rows, row, random.subject) if random else None
    helped = gain is not None and gain.value > 0 and _sure(gain)
    others = [
        found for name in BASELINES if (found := find(best.rows, name, row.protocol, row.metric)) is not None
    ]
    ahead = [other for other in others if other.value >= row.value]
    sentences = [_best_sentence(best, row, gain, helped), *_few_labels(best), *_saved(best)]
    near = {
        record.method_in_words: told[0] for record, own in ranked if (told := by_neighbours(record.rows, own))
    }
    by_knn = [name for name, found in near.items() if found.helped]
    sentences += _rest_sentences(row, rest)
    if near:
        sentences.append(_near_sentence(near, by_knn))
    sentences += [
        f"{BASELINES[other.subject].capitalize()}, which needs no training, does at least as well with "
        f"{percent(other.value)}."
        for other in ahead
    ]
    sentences += bought(best.rows, row)
    sentences.append(_action(best, helped, ahead))
    if not helped:
        only = f" by {READERS.get(row.protocol, row.protocol)}; by kNN {listed(by_knn)} did" if by_knn else ""
        return Verdict("unclear", f"No method was shown to help on these images{only}", tuple(sentences))
    title = f"{best.method_in_words} is the encoder to take"
    return Verdict("better", title + (", but a baseline does as well" if ahead else ""), tuple(sentences))


def _measured(records: Sequence[Record]) -> list[tuple[Record, Row]]:
    found = [(record, main_row(record.rows, record.subject)) for record in records]
    return [(record, row) for record, row in found if row is not None]


def _sure(row: Row) -> bool:
    return float(row.setting.get("p", 1.0)) < SIGNIFICANT


def _ends(row: Row) -> str:
    return f" ({interval(row.low, row.high)})" if row.low is not None and row.high is not None else ""


def _best_sentence(best: Record, row: Row, gain: Row | None, helped: bool) -> str:
    told = f"On these images {best.method_in_words} names {percent(row.value)}{_ends(row)} of the test images right"
    if gain is None:
        return (
            f"{told}; random weights were not measured beside it, so this does not show that training helped."
        )
    if helped:
        more = f"{points(gain.value)}{_ends(gain)} more than random weights of the same network"
        return f"{told}: {more}, with all labels."
    return (
        f"{told}, the most of all methods, which is {points(gain.value)}{_ends(gain)} from random weights of the same "
        "network: no more than chance explains."
    )


def _few_labels(best: Record) -> list[str]:
    """The gain with few labels, where it was measured."""
    told = []
    for row in best.rows:
        if row.subject == best.subject and row.protocol == "few_labels" and row.metric.startswith("top1"):
            labels = row.setting.get("labels")
            gain = (
                paired_difference(best.rows, row, untrained.subject)
                if (untrained := untrained_row(best.rows, row))
                else None
            )
            if labels is not None and gain is not None:
                told.append(
                    f"With {labels} the gain over random weights is {points(gain.value)}{_ends(gain)}."
                )
    return told


def _saved(best: Record) -> list[str]:
    row = next((r for r in best.rows if r.subject == best.subject and r.metric == "labels_saved"), None)
    return [] if row is None else [f"It saves about {number(row.value)} labels at equal accuracy."]


def _rest_sentences(best: Row, rest: Sequence[tuple[Record, Row]]) -> list[str]:
    """Which others are as good as the best, which are behind, and which do not help at all."""
    equal, behind, useless = [], [], []
    for record, row in rest:
        name = record.method_in_words
        against = paired_difference(record.rows, row, best.subject)
        random = untrained_row(record.rows, row)
        gain = paired_difference(record.rows, row, random.subject) if random else None
        if gain is not None and not (gain.value > 0 and _sure(gain)):
            side = "above" if gain.value > 0 else "below"
            useless.append(f"{name} ({points(gain.value)} {side} random weights)")
        elif against is not None and not _sure(against):
            equal.append(name)
        else:
            behind.append(f"{name} by {points(best.value - row.value)}")
    told = []
    if equal:
        told.append(f"{listed(equal)} {'is' if len(equal) == 1 else 'are'} within noise of it.")
    if behind:
        told.append(f"Behind it: {listed(behind)}.")
    if useless:
        told.append(f"Not shown to help here: {listed(useless)}.")
    return told


def _near_sentence(near: Mapping[str, Gain], helped: Sequence[str]) -> str:
    """Of which methods the kNN vote, beside the main protocol, says that they help."""
    if not helped:
        return "The kNN vote, which fits nothing to the features, shows no gain of any of them either."
    gains = listed(f"{name} by {points(near[name].value)}" for name in helped)
    return f"By the kNN vote, which fits nothing to the features, there is a gain over random weights of {gains}."


def _action(best: Record, helped: bool, ahead: Sequence[Row]) -> str:
    if not helped:
        return "Train longer, or on more images, before you use any of these encoders; or use the simplest baseline."
    if ahead:
        return "Before you use the encoder, ask whether the baseline is not enough."
    return f'Use it: encoder = nolabel.load_encoder("{best.folder}").'
