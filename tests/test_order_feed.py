"""The order of the images and the steps that run ahead: functions of the seed and the step alone."""

import threading
import time

import pytest
import torch

from nolabel.data.feed import Feed
from nolabel.data.order import batch_indices, epoch_order
from nolabel.errors import UsageError
from nolabel.seeds import generator


def test_an_epoch_shows_every_image_once_and_drops_the_rest() -> None:
    steps = [batch_indices(23, 5, seed=3, step=step) for step in range(8)]
    for epoch in range(2):
        seen = torch.cat(steps[4 * epoch : 4 * epoch + 4])
        assert len(seen.unique()) == 20
        torch.testing.assert_close(seen, epoch_order(23, 3, epoch)[:20])
    assert not torch.equal(steps[0], steps[4])


def test_the_order_is_a_pure_function_of_seed_and_epoch() -> None:
    expected = torch.randperm(100, generator=generator(7, "order", 2))
    torch.rand(3)
    torch.testing.assert_close(epoch_order(100, 7, 2), expected)
    assert not torch.equal(epoch_order(100, 8, 2), expected)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 4"):
        batch_indices(4, 5, 0, 0)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_results_do_not_depend_on_read_ahead(ahead: int) -> None:
    with Feed(
        lambda step: torch.rand(2, generator=generator(0, "views", step)).tolist(), 5, 12, ahead
    ) as feed:
        got = list(feed)
    assert got == [torch.rand(2, generator=generator(0, "views", step)).tolist() for step in range(5, 12)]


def test_each_step_is_prepared_once_and_none_beyond_the_last() -> None:
    begun: list[int] = []
    with Feed(begun.append, 2, 5, 4) as feed:
        list(feed)
    assert begun == [2, 3, 4]


def test_at_most_that_many_steps_run_ahead() -> None:
    begun: list[int] = []
    with Feed(lambda step: begun.append(step) or step, 0, 100, 2) as feed:
        steps = iter(feed)
        assert next(steps) == 0
        time.sleep(0.05)
        assert set(begun) <= {0, 1, 2}
        assert next(steps) == 1


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_exception_comes_where_its_result_would_have_come(ahead: int) -> None:
    def prepare(step: int) -> int:
        if step == 3:
            raise UsageError("step 3")
        return step

    got = []
    with pytest.raises(UsageError, match="step 3"), Feed(prepare, 0, 9, ahead) as feed:
        got.extend(feed)
    assert got == [0, 1, 2]


def test_leaving_early_ends_the_thread() -> None:
    with Feed(lambda step: step, 0, 1000, 2) as feed:
        for step in feed:
            if step == 2:
                break
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("feed")]


def test_waiting_is_measured() -> None:
    with Feed(lambda step: time.sleep(0.02), 0, 3, 0) as feed:
        list(feed)
    assert feed.waited >= 0.06
