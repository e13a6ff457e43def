"""Accuracy at equal minutes: nolabel's SimCLR and Rotation against lightly's SimCLR recipe, by the same protocol.

`python -m benchmarks.accuracy --out runs/accuracy` does one run after another, each in a process of its own, and
leaves out what is done already: stop it and start it again as often as you like. Arms: `simclr`, `rotation`, and
`lightly-B` (batch size B). The first seed of an arm is evaluated beside the baselines.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.pairs import machine
from nolabel import evaluate
from nolabel.runs import read_rows, status_of


def command(arm: str, data: str, folder: Path, minutes: float, seed: int) -> list[str]:
    common = ["--out", str(folder), "--encoder", "resnet10", "--minutes", str(minutes), "--seed", str(seed)]
    if arm.startswith("lightly-"):
        batch = arm.split("-")[1]
        return [sys.executable, "-m", "benchmarks.lightly_recipe", data, "--batch-size", batch, *common]
    return [sys.executable, "-m", "nolabel", "pretrain", arm, data, *common]


def trained(arm: str, data: str, folder: Path, minutes: float, seed: int) -> None:
    """Train in `folder` unless that is done."""
    # lightly's arm writes an encoder and no description of a run
    if not (folder / "encoder.json").is_file() or status_of(folder) not in (None, "finished"):
        subprocess.run(command(arm, data, folder, minutes, seed), check=True)


def measure(arm: str, data: str, folder: Path, minutes: float, seed: int, baselines: tuple[str, ...]) -> None:
    """Train and evaluate what is not there yet."""
    trained(arm, data, folder, minutes, seed)
    if not read_rows(folder / "evaluation.jsonl"):
        evaluate(folder, data, protocols=("linear", "knn"), baselines=baselines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/cifar10.zip")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument(
        "--arms", nargs="+", default=["simclr", "lightly-256", "rotation", "lightly-128", "lightly-512"]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    for seed in a.seeds:
        for arm in a.arms:
            beside = seed == a.seeds[0] and not arm.startswith("lightly")
            baselines = ("random", "pixels", "histogram") if beside else ()
            measure(arm, a.data, a.out / f"{arm}-{seed}", a.minutes, seed, baselines)
            rows = [
                r for r in read_rows(a.out / f"{arm}-{seed}" / "evaluation.jsonl") if r["metric"] == "top1"
            ]
            print(
                arm,
                seed,
                [(r["subject"], r["protocol"], round(100 * r["value"], 2)) for r in rows],
                flush=True,
            )
    (a.out / "machine.json").write_text(json.dumps(machine(), indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
