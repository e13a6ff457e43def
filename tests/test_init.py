"""Starting from the weights of another run: what `--init` does."""

import copy
from pathlib import Path

import pytest

from nolabel.api import pretrain
from nolabel.encoders._io import encoder_digest, initialise, save_encoder
from nolabel.encoders._statistics import set_normalisation
from nolabel.encoders._whitening import whiten_stem
from nolabel.encoders.base import build
from nolabel.errors import UsageError
from test_encoders import photos, saved, seeded, shared
from toys import toy_store


def test_init_from_another_run(tmp_path: Path) -> None:
    source = copy.deepcopy(shared("resnet10", 32))
    set_normalisation(source, (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    whiten_stem(source, photos(8, 32))
    save_encoder(tmp_path, source, {})
    encoder = seeded("resnet10", 96, seed=5)
    initialise(encoder, tmp_path)
    assert encoder_digest(encoder) == encoder_digest(source)
    assert encoder.size == 96
    assert encoder.whitened
    assert not encoder.stem.weight.requires_grad
    assert encoder.training


@pytest.mark.parametrize(
    ("name", "size", "key"),
    [
        ("nin3", 32, "they have no conv1.0.conv.weight"),
        ("resnet18b16", 32, "conv1.weight is (32, 3, 3, 3) there and (16, 3, 3, 3) here"),
    ],
)
def test_init_from_another_net_names_the_first_difference(
    name: str, size: int, key: str, tmp_path: Path
) -> None:
    saved(tmp_path)
    encoder = copy.deepcopy(shared(name, size))
    before = encoder_digest(encoder)
    with pytest.raises(UsageError) as failure:
        initialise(encoder, tmp_path)
    assert key in str(failure.value)
    assert encoder_digest(encoder) == before


def test_init_refuses_a_deeper_net(tmp_path: Path) -> None:
    save_encoder(tmp_path, build("resnet34b16", 32), {})
    with pytest.raises(UsageError, match=r"has no layer1\.2\."):
        initialise(build("resnet18b16", 32), tmp_path)


@pytest.mark.parametrize("name", ["missing.safetensors", "."])
def test_a_run_that_cannot_start_from_its_weights_leaves_no_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file|holds no"):
        pretrain(
            str(Path(__file__).parent / "toys.py"), toy_store(), out=tmp_path / "run", size=16, steps=1,
            init=tmp_path / name, progress=False,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
