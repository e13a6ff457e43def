"""The lecture's downstream tables at small scale: RotNet's CIFAR-10 table, few labels, transfer.

`python -m benchmarks.tables rotnet|few_labels|transfer --data cifar10.zip --out runs/tables` pretrains each method
where its run is not there yet and measures what the run does not hold: stop it and start it again as often as
you like. `--steps` is the length of every training with labels; the settings that are tried have half of it.
`python tools/record_tables.py docs/results/downstream RUN ...` writes the tables.
"""

import argparse
from pathlib import Path

from benchmarks.accuracy import trained
from nolabel.data.store import ImageStore
from nolabel.encoders._io import encoder_digest, image_size, load_encoder
from nolabel.evaluation.base import Protocol
from nolabel.evaluation.compare import measure
from nolabel.evaluation.conv import Conv, ConvOptions
from nolabel.evaluation.few_labels import FewLabels, FewLabelsOptions
from nolabel.evaluation.finetune import Finetune, FinetuneOptions
from nolabel.evaluation.mlp import MLP, MLPOptions
from nolabel.evaluation.run import subject_of
from nolabel.evaluation.supervised import Supervised, SupervisedOptions
from nolabel.evaluation.targets import Wanted, transfer_all
from nolabel.runs import TRANSFER, opened_at


def protocols(table: str, steps: int) -> tuple[str | Protocol, ...]:
    """Of RotNet's table, or of few labels, with trainings of so many steps."""
    half = steps // 2
    if table == "few_labels":
        return (FewLabels(FewLabelsOptions(per_class=(4, 20), steps=steps)),)
    return (
        "linear",
        MLP(MLPOptions(steps=2 * steps, choice_steps=steps)),
        Conv(ConvOptions(steps=steps, choice_steps=half)),
        Finetune(FinetuneOptions(steps=half)),
        Supervised(SupervisedOptions(steps=steps, choice_steps=half)),
    )


def transfer(folder: Path, targets: list[str], seed: int) -> None:
    """The linear transfer of one run to each of the sets."""
    encoder = load_encoder(folder)
    size = image_size(folder, encoder)
    wanted = Wanted(subject_of(folder), encoder_digest(encoder), size, seed)
    stores = [ImageStore.open(target, size=size) for target in targets]
    transfer_all(encoder, stores, folder / TRANSFER, wanted, say=print)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=("rotnet", "few_labels", "transfer"))
    parser.add_argument("--data", default="../shared/data/cifar10.zip")
    parser.add_argument("--targets", nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    parser.add_argument("--methods", nargs="+", default=["simclr", "rotation"])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    for number, method in enumerate(a.methods):
        folder = a.out / f"{method}-{a.seed}"
        trained(method, a.data, folder, a.minutes, a.seed)
        if a.table == "transfer":
            transfer(folder, a.targets, a.seed)
            continue
        store = ImageStore.open(a.data, size=opened_at(folder, a.data))
        for protocol in protocols(a.table, a.steps):
            # the supervised net is the same beside every method
            if number and isinstance(protocol, Supervised):
                continue
            measure(folder, store, protocols=(protocol,), baselines=("random",), seed=a.seed)
            print(method, protocol if isinstance(protocol, str) else type(protocol).__name__, flush=True)


if __name__ == "__main__":
    main()
