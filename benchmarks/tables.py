"""The lecture's downstream tables at small scale: RotNet's CIFAR-10 table, few labels, labels saved, transfer.

`python -m benchmarks.tables rotnet|few_labels|efficiency|transfer --data cifar10.zip --out runs/tables` pretrains
each method where its run is not there yet and measures what the run does not hold: stop it and start it again as
often as you like. `--steps` is the length of every training with labels; the settings that are tried have half of it.
`python tools/record_tables.py docs/results/downstream RUN ...` writes the tables.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.accuracy import trained
from nolabel.data.store import ImageStore
from nolabel.evaluation.base import Protocol
from nolabel.evaluation.compare import measure
from nolabel.evaluation.conv import Conv, ConvOptions
from nolabel.evaluation.few_labels import FewLabels, FewLabelsOptions
from nolabel.evaluation.finetune import Finetune, FinetuneOptions
from nolabel.evaluation.label_efficiency import LabelEfficiency, LabelEfficiencyOptions
from nolabel.evaluation.mlp import MLP, MLPOptions
from nolabel.evaluation.run import side_of
from nolabel.evaluation.supervised import Supervised, SupervisedOptions


def protocols(table: str, steps: int) -> tuple[str | Protocol, ...]:
    """Of RotNet's table, of few labels, or of the labels saved, with trainings of so many steps."""
    half = steps // 2
    if table == "few_labels":
        return (FewLabels(FewLabelsOptions(per_class=(4, 20), steps=steps)),)
    if table == "efficiency":
        return (LabelEfficiency(LabelEfficiencyOptions(steps=steps, choice_steps=half)),)
    return (
        "linear",
        MLP(MLPOptions(steps=2 * steps, choice_steps=steps, unfrozen_steps=half)),
        Conv(ConvOptions(steps=steps, choice_steps=half, unfrozen_steps=half)),
        Finetune(FinetuneOptions(steps=half)),
        Supervised(SupervisedOptions(steps=steps, choice_steps=half)),
    )


def transferred(runs: list[Path], targets: list[str], out: Path, seed: int, steps: int | None) -> None:
    """One table of all runs, so that runs of one architecture share their random weights; `steps`: fine-tuned too."""
    beside = ("--beside", ",".join(map(str, runs[1:]))) if runs[1:] else ()
    tuned = ("--finetune", "--steps", str(steps)) if steps else ()
    command = (sys.executable, "-m", "nolabel", "transfer", runs[0], *targets, *beside, *tuned)
    subprocess.run([*command, "--seed", str(seed), "--out", out], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=("rotnet", "few_labels", "efficiency", "transfer"))
    parser.add_argument("--data", default="../shared/data/cifar10.zip")
    parser.add_argument("--targets", nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    parser.add_argument("--methods", nargs="+", default=["simclr", "rotation"])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--finetune", action="store_true", help="of transfer: fine-tune on each target too")
    a = parser.parse_args()
    folders = [a.out / f"{method}-{a.seed}" for method in a.methods]
    for method, folder in zip(a.methods, folders, strict=True):
        trained(method, a.data, folder, a.minutes, a.seed)
    if a.table == "transfer":
        steps = a.steps if a.finetune else None
        transferred(folders, a.targets, a.out / f"transfer-{a.seed}", a.seed, steps)
        return
    for number, folder in enumerate(folders):
        store = ImageStore.open(a.data, size=side_of(folder, a.data, None, ("random",)))
        for protocol in protocols(a.table, a.steps):
            # the supervised net is the same beside every method
            if number and isinstance(protocol, Supervised):
                continue
            measure(folder, store, protocols=(protocol,), baselines=("random",), seed=a.seed)
            print(folder, protocol if isinstance(protocol, str) else type(protocol).__name__, flush=True)


if __name__ == "__main__":
    main()
