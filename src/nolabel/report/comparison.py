"""What a comparison of methods on one set of images says, in sentences a person can act on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nolabel.report._text import SPACE, capitalised, count, hundredths, listed, percent, points
from nolabel.report.contenders import FEW_LABELS, Contender, WithFew, by_one_protocol, in_order, with_few
from nolabel.report.labels_saved import saved_sentence
from nolabel.report.records import (
    BASELINES,
    LABELS_SAVED,
    SUPERVISED,
    UNTRAINED,
    Record,
    Row,
    amount_of_labels,
    find,
    leaks,
    measured_on,
    pooled,
)
from nolabel.report.unjudged import none_judged
from nolabel.report.verdict import (
    RIGHT,
    Gain,
    Tone,
    Verdict,
    by_neighbours,
    gain_over,
    leaks_beside,
    otherwise_trained,
    read_by,
    together,
)

SAVED_AGAINST = {
    SUPERVISED: "the same network trained from scratch",
    UNTRAINED: "random weights of the same network",
}
"""what labels are saved against, the one to tell first"""
COSTLY = {"few_labels": "the gain with few labels", "label_efficiency": "how many labels it saves"}
"""protocols that a comparison measures where it is asked to, and what they tell"""


def compared(records: Sequence[Record]) -> Verdict:
    """The verdict over the runs of one comparison: the best, what is within noise of it, what does not help.

    Runs are ranked by the first protocol that all have (linear, kNN, others) on its validation part, so that the test
    images do not choose the run whose gain is then quoted on them; the best is the first that is shown to help.
    Better and worse mean what `shown` says of a paired test on the same test images, after Holm's correction for the
    number of methods. Of several sets of images the first is judged.
    """
    data = measured_on(records)[0]
    here = [replace(r, rows=rows) for r, rows in zip(records, pooled(records, data), strict=True)]
    measured, compared_by = by_one_protocol(here)
    ranked = in_order(measured)
    if not ranked:
        return Verdict("unknown", *none_judged(here))
    best = next((one for one in ranked if one.gain and one.gain.helped), ranked[0])
    rest = [one for one in ranked if one is not best]
    rows, row = best.record.rows, best.row
    helped = best.gain is not None and best.gain.helped
    others = [find(rows, name, row.protocol, row.metric) for name in BASELINES]
    ahead = [other for other in others if other is not None and other.value >= row.value]
    near, few, saved = _near(ranked), with_few(best), _saved(best)
    beside = few if few is not None and few.row.protocol != row.protocol else None
    sentences = (
        _best_sentence(best, beside),
        *compared_by,
        *best.by_classes,
        *saved,
        *_rest_sentence(best, rest, beside),
        *_near_sentence(near, ranked),
        *_beside_sentence(best, ahead),
        *(leaks_beside(rows, row) or leaks(rows)),
        *_collapsed(here),
        _action(best, helped, ahead),
    )
    notes = (*_chosen_by(ranked), *_evidence(best, beside), *_missing(few, saved))
    if not helped:
        by_knn = [name for name, gain in near.items() if gain.helped]
        return Verdict(*_none_helped(ranked, by_knn), sentences, notes)
    title = f"{best.name} is the encoder to take"
    return Verdict("better", title + (", but a baseline does as well" if ahead else ""), sentences, notes)


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


def _near(ranked: Sequence[Contender]) -> Mapping[str, Gain]:
    """Method -> its gain by the kNN vote beside the main protocol, where that was measured."""
    told = {one.name: near[0] for one in ranked if (near := by_neighbours(one.record.rows, one.row))}
    return dict(zip(told, together(list(told.values())), strict=True))


def _best_sentence(best: Contender, few: WithFew | None) -> str:
    """What the best is worth with all labels, and with few where that was measured."""
    row, gain = best.row, best.gain
    by = "" if row.protocol == "linear" else f" by {read_by(row.protocol)}"
    labels = "" if amount_of_labels(row.protocol) else " with all labels"
    told = f"On these images {best.name} names {percent(row.value)}{_ends(row.ends)} of the test images "
    told += f"{RIGHT[row.metric]}{by}{labels}"
    if gain is None:
        return (
            f"{told}; random weights were not measured beside it, so this does not show that training helped."
        )
    told += f", {_more(gain)} {'as' if _equal(gain) else 'than'} random weights of the same network"
    neither = few is not None and not gain.sure and not few.gain.sure
    told += "" if gain.helped or neither else f", {gain.chance} ({gain.evidence})"
    if few is not None:
        by = "" if few.head == "linear" else f" by {FEW_LABELS[few.head]}"
        told += f", and {_more(few.gain)} with {few.labels}{by}"
        told += "" if neither or (gain.helped and few.gain.helped) else f", {few.gain.chance}"
        told += ": neither is more than chance explains" * neither
    if gain.hurt and not (few and few.gain.helped):
        told += ": the untrained network is the better choice"
    return f"{told}."


def _ends(ends: str) -> str:
    return f" ({ends})" if ends else ""


def _equal(gain: Gain) -> bool:
    return hundredths(gain.value) == "0.0"


def _more(gain: Gain) -> str:
    """12.1 points (10.8 to 13.4) more; 1.0 point less (difference −2.3 to 0.3); as many."""
    if _equal(gain):
        return f"as many{_ends(gain.ends)}"
    if gain.value < 0:
        return f"{points(gain.value)} less{_ends(f'difference {gain.ends}' if gain.ends else '')}"
    return f"{points(gain.value)}{_ends(gain.ends)} more"


def _evidence(best: Contender, few: WithFew | None) -> list[str]:
    """What the numbers of the first sentence rest on."""
    ends = f"In parentheses: 95{SPACE}% intervals, in points for differences."
    told = [f"{ends} The gain with all labels: {best.gain.evidence}." if best.gain else ends]
    if few is not None and "drawn" in few.row.setting:
        told.append(f"The gain with few labels rests on {few.row.setting['drawn']}.")
    return told


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


def _saved(best: Contender) -> list[str]:
    """The labels saved at equal accuracy, against training from scratch where that was measured.

    Of several numbers of labels, the largest for which the other reaches the same accuracy within its own; where
    there is none, the bound whose interval begins highest.
    """
    own = [r for r in best.record.rows if (r.subject, r.metric) == (best.record.subject, LABELS_SAVED)]
    for prefix, other in SAVED_AGAINST.items():
        rows = [row for row in own if row.against.startswith(prefix)]
        within = [row for row in rows if str(row.setting["range"]).startswith("within")]
        if rows:
            row = max(within, key=_labels) if within else max(rows, key=_surely_saved)
            steps = f" for {count(row.setting['steps'])} steps" if "steps" in row.setting else ""
            judged_by = ", by the share of all test images," * bool(best.by_classes)
            return [saved_sentence(row.value, row.low, row.high, row.setting, f"{other}{steps}", judged_by)]
    return []


def _surely_saved(row: Row) -> tuple[float, float]:
    return (-math.inf if row.low is None else row.low, row.value)


def _labels(row: Row) -> int:
    return int(row.setting["labels"])


def _rest_sentence(best: Contender, rest: Sequence[Contender], few: WithFew | None) -> list[str]:
    """Which others are as good as the best, which are behind or ahead, and which do not help or do harm."""
    equal, behind, ahead, useless, worse = [], [], [], [], []
    against = together([gain_over(one.record.rows, one.row, best.row, best.name) for one in rest])
    for one, difference in zip(rest, against, strict=True):
        if one.gain is not None and one.gain.hurt:
            worse.append(f"{one.name} by {points(one.gain.value)}")
        elif one.gain is not None and not one.gain.helped:
            useless.append(f"{one.name} ({_beside_random(one.gain)})")
        elif not difference.sure:
            equal.append(one.name)
        else:
            side = ahead if difference.value > 0 else behind
            side.append(f"{one.name} by {points(difference.value)}")
    clauses = (
        ("behind it:", behind),
        ("ahead of it on the test images, which did not rank them:", ahead),
        (f"ahead of it with {few.labels}:" if few else "", _ahead_with_few(best, rest, few) if few else []),
        ("not shown to help here:", useless),
        ("worse than random weights:", worse),
    )
    level = [f"{listed(equal)} {'is' if len(equal) == 1 else 'are'} within noise of it"] if equal else []
    told = "; ".join([*level, *(f"{what} {listed(names)}" for what, names in clauses if names)])
    return [f"{capitalised(told)}."] if told else []


def _beside_random(gain: Gain) -> str:
    if _equal(gain):
        return "level with random weights"
    return f"{points(gain.value)} {'above' if gain.value > 0 else 'below'} random weights"


def _ahead_with_few(best: Contender, rest: Sequence[Contender], few: WithFew) -> list[str]:
    """The others that are shown to be better than the best with few labels."""
    found = {
        one.name: gain_over(one.record.rows, own, few.row, best.name)
        for one in rest
        if (own := find(one.record.rows, one.record.subject, few.row.protocol, few.row.metric)) is not None
    }
    judged = zip(found, together(list(found.values())), strict=True)
    return [f"{name} by {points(gain.value)}" for name, gain in judged if gain.helped]


def _near_sentence(near: Mapping[str, Gain], ranked: Sequence[Contender]) -> list[str]:
    """Of which methods the kNN vote says something else than the main protocol does."""
    main = {one.name: one.gain for one in ranked}
    differ = {name: gain for name, gain in near.items() if main[name] and _says(gain) != _says(main[name])}
    kinds = (
        (
            "a gain over random weights of",
            [f"{n} by {points(g.value)}" for n, g in differ.items() if g.helped],
        ),
        (
            "a loss against random weights of",
            [f"{n} by {points(g.value)}" for n, g in differ.items() if g.hurt],
        ),
        ("no gain of", [name for name, gain in differ.items() if not gain.sure]),
    )
    told = [f"{what} {listed(names)}" for what, names in kinds if names]
    return [f"By the kNN vote, which fits nothing to the features, there is {listed(told)}."] if told else []


def _says(gain: Gain | None) -> tuple[bool, bool]:
    return gain is not None and gain.helped, gain is not None and gain.hurt


def _beside_sentence(best: Contender, ahead: Sequence[Row]) -> list[str]:
    """Which baselines without training do as well, and how the network does when it is trained otherwise."""
    names = listed(f"{BASELINES[other.subject]} ({percent(other.value)})" for other in ahead) if ahead else ""
    clauses = [f"at least as good without any training: {names}"] if ahead else []
    told = "; ".join((*clauses, *otherwise_trained(best.record.rows, best.row)))
    return [f"{capitalised(told)}."] if told else []


def _collapsed(records: Sequence[Record]) -> list[str]:
    names = [record.method_in_words for record in records if record.info.get("collapse")]
    if not names:
        return []
    return [f"Collapsed in training, as the warnings in the report say: {listed(names)}."]


def _action(best: Contender, helped: bool, ahead: Sequence[Row]) -> str:
    """What to do now."""
    if not helped:
        return "Train longer, or on more images, before you use any of these encoders; or use the simplest baseline."
    if ahead:
        return "Before you use the encoder, ask whether the baseline is not enough."
    return f'Use it: encoder = nolabel.load_encoder("{best.record.folder}").'


def _missing(few: WithFew | None, saved: Sequence[str]) -> list[str]:
    """By which command to learn what was not measured."""
    measured = {"few_labels": few, "label_efficiency": saved}
    missing = [what for name, what in COSTLY.items() if not measured[name]]
    if not missing:
        return []
    return [
        f"To learn {listed(missing)} as well: nolabel compare with --protocols linear,knn,{','.join(COSTLY)} (and "
        "the same --out, so that nothing is trained again)."
    ]
