"""What is said of encoders of which there is no accuracy: what was measured, and how to learn the rest."""

from collections.abc import Sequence

from nolabel.report._text import capitalised, listed, number
from nolabel.report.records import (
    LABEL_FREE,
    LIKENESS,
    METRICS_IN_WORDS,
    Record,
    Row,
    measure_in_words,
    protocol_in_words,
    subject_in_words,
    untrained_row,
)

MEASURE = "For a judgement on the encoder measure its accuracy too: --protocols linear,knn."
NO_ACCURACY = "Measured, but not for accuracy"
BASELINES_ALONE = "Only baselines were measured"
NOT_EVALUATED = (
    "Nothing has been measured on held-out images, so nothing is known of what this encoder is worth: run nolabel "
    "evaluate with labelled images."
)
Said = tuple[str, tuple[str, ...]]
"""a title, and sentences"""


def without_accuracy(rows: Sequence[Row], subject: str) -> Said:
    """What was measured of `subject`, of which there is no accuracy, or beside it."""
    own = [row for row in rows if row.subject == subject]
    measured = [row for row in own if _is_measure(row)]
    free = [row for row in own if row.protocol == LABEL_FREE]
    if measured:
        return NO_ACCURACY, (*_beside(rows, measured), *_said_of_features(free), MEASURE)
    if free and "labels" in free[0].setting:
        return "No labels, so no accuracy", _label_free(free)
    if free:
        return NO_ACCURACY, (
            f"Only the features themselves were described ({_values(free)}).",
            *_said_of_features(free),
            MEASURE,
        )
    baselines = _of_baselines(rows)
    if baselines:
        return BASELINES_ALONE, (*baselines, f"Of this encoder itself nothing was measured. {MEASURE}")
    return "Not evaluated", (NOT_EVALUATED,)


def none_judged(records: Sequence[Record]) -> Said:
    """What was measured of several runs, none of which has an accuracy: of each protocol the first measure."""
    named = [(record, row) for record in records for row in record.rows if row.subject == record.subject]
    told = []
    for protocol in dict.fromkeys(row.protocol for _, row in named if _is_measure(row)):
        first = next(row for _, row in named if row.protocol == protocol)
        values = {
            record.method_in_words: row.in_words
            for record, row in named
            if (row.protocol, row.metric) == (protocol, first.metric)
        }
        random = next(filter(None, (untrained_row(record.rows, first) for record in records)), None)
        values |= {"random weights": random.in_words} if random else {}
        kind = f"{_heading(protocol)}, {measure_in_words(first.metric)}"
        told.append(f"{kind}: {listed(f'{name} {value}' for name, value in values.items())}.")
    for record in records:
        free = [row for row in record.rows if (row.subject, row.protocol) == (record.subject, LABEL_FREE)]
        told += [f"{record.method_in_words}: {said}" for said in _said_of_features(free)]
    if told:
        return NO_ACCURACY, (*told, MEASURE)
    baselines = _of_baselines([row for record in records for row in record.rows])
    if baselines:
        return BASELINES_ALONE, (*baselines, f"Of the runs themselves nothing was measured. {MEASURE}")
    return "Nothing was measured", ("None of the runs was measured on labelled images.",)


def _is_measure(row: Row) -> bool:
    return row.is_measure and row.protocol != LIKENESS


def _heading(protocol: str) -> str:
    return capitalised(protocol_in_words(protocol))


def _beside(rows: Sequence[Row], measured: Sequence[Row]) -> list[str]:
    """Each protocol's measures of an encoder, with those of random weights where they are there."""
    told = []
    for protocol in dict.fromkeys(row.protocol for row in measured):
        values = []
        for row in (row for row in measured if row.protocol == protocol):
            random = untrained_row(rows, row)
            against = f" (random weights: {random.in_words})" if random else ""
            values.append(f"{measure_in_words(row.metric)} {row.in_words}{against}")
        told.append(f"{_heading(protocol)}: {listed(values)}.")
    return told


def _of_baselines(rows: Sequence[Row]) -> list[str]:
    """The accuracies of baselines beside which no encoder was measured, a sentence a protocol."""
    told = []
    shares = [row for row in rows if row.is_baseline and row.is_share]
    for protocol in dict.fromkeys(row.protocol for row in shares):
        metric = next(row.metric for row in shares if row.protocol == protocol)
        values = dict.fromkeys(
            f"{subject_in_words(row.subject)} {row.in_words}{f' ({row.ends})' if row.ends else ''}"
            for row in shares
            if (row.protocol, row.metric) == (protocol, metric)
        )
        told.append(f"{_heading(protocol)}, {METRICS_IN_WORDS[metric]} on the test images: {listed(values)}.")
    return told


def _values(free: Sequence[Row]) -> str:
    values = listed(f"{measure_in_words(row.metric)} {number(row.value)}" for row in free)
    return f"{listed(dict.fromkeys(protocol_in_words(row.protocol) for row in free))}: {values}"


def _said_of_features(free: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(row.setting["verdict"]) for row in free if row.setting.get("verdict")))


def _label_free(free: Sequence[Row]) -> tuple[str, ...]:
    return (
        f"Without labels only the features themselves can be described ({_values(free)}).",
        *_said_of_features(free),
        "They show whether the features collapsed, not whether they are useful: a few hundred labelled images given "
        "with --labels are enough to know.",
    )
