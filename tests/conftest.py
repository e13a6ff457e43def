"""What all tests share: where the data sets are, a cache of their own, few threads."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cli_helpers import Said, Say, write_images
from nolabel.encoders._io import save_encoder
from nolabel.encoders.base import build
from nolabel.evaluation import _largest
from nolabel.views import _kernels

ROOT = Path(__file__).parents[1]


def find_shared_data() -> Path | None:
    """The folder `shared/data` above the repository, or under `$NOLABEL_SHARED`; None where there is none."""
    named = os.environ.get("NOLABEL_SHARED")
    candidates = [Path(named) / "data"] if named else [above / "shared" / "data" for above in ROOT.parents]
    return next((folder for folder in candidates if folder.is_dir()), None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests measured and noted with `record_property`."""
    found = [report for report in terminalreporter.getreports("passed") if report.user_properties]
    for name, value in (pair for report in found for pair in report.user_properties):
        terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the data sets that the project is given (`cifar10.zip` and others)."""
    folder = find_shared_data()
    if folder is None:
        pytest.skip("shared/data is not on this machine (NOLABEL_SHARED names the folder that holds it)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for this session: no test reads or fills the user's; kernels are compiled once in it.

    They are compiled now: a test without a writable cache or a compiler would turn them off for all that follow it.
    """
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOLABEL_CACHE", str(folder / "nolabel"))
        patch.setenv("XDG_CACHE_HOME", str(folder))
        _kernels.library()
        _largest.library()
        yield folder


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> None:
    """At most two threads, and one where processes share the cores: tests behave alike on small and large machines."""
    share = (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max(1, min(2, share)))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained resnet10 for 16 px."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder, build("resnet10", 16), {})
    return folder


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    """Run one command of the program in this process."""
    from nolabel.cli import main

    def run(*words: object) -> Said:
        capfd.readouterr()
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def small_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 20 training and 8 test images of two classes, 32 px."""
    return write_images(tmp_path_factory.mktemp("images"))
