"""The processes of a run: one, several on this machine, or those that torchrun started."""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from nolabel import errors
from nolabel.errors import NolabelError, RunError, UsageError

TIMEOUT = timedelta(minutes=10)
"""how long a process waits for another before it gives up"""
GRACE = 10.0
"""seconds that the others have to end after one has failed"""


def external() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return int(os.environ["RANK"]) == 0 if external() else True


def world_size(devices: int) -> int:
    """Processes of the run over all machines."""
    return int(os.environ["WORLD_SIZE"]) if external() else devices


def make_fabric(precision: str) -> Fabric:
    """Fabric for this process, launched; among several it joins the others."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every process
    if not external():
        fabric = Fabric(accelerator="auto", devices=1, precision=precision)  # type: ignore[arg-type]
    else:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        fabric = Fabric(
            accelerator="auto" if torch.cuda.device_count() >= local else "cpu",
            devices=local,
            num_nodes=int(os.environ["WORLD_SIZE"]) // local,
            strategy=DDPStrategy(timeout=TIMEOUT),
            precision=precision,  # type: ignore[arg-type]
        )
    fabric.launch()
    return fabric


def check_devices(devices: int) -> None:
    """Raise UsageError if this machine cannot run `devices` processes."""
    if devices < 1:
        raise UsageError(f"--devices must be at least 1, not {devices}.")
    if external() and devices not in (1, int(os.environ["LOCAL_WORLD_SIZE"])):
        raise UsageError("torchrun has started the processes already: leave --devices out.")
    if torch.cuda.is_available() and not external() and devices > torch.cuda.device_count():
        raise UsageError(f"This machine has {torch.cuda.device_count()} GPUs: choose --devices up to that.")


def launch(work: Callable[..., Any], args: Sequence[Any], devices: int) -> None:
    """Call `work(*args)`: here, or in `devices` new processes that see what torchrun would tell them.

    Raises:
        RunError: a process died; the others are ended.
        NolabelError, KeyboardInterrupt: what `work` raised in one of the processes.
    """
    if devices == 1 or external():
        work(*args)
        return
    context = multiprocessing.get_context("spawn")
    messages = context.SimpleQueue()
    port = _free_port()
    processes: list[BaseProcess] = [
        context.Process(target=_child, args=(rank, devices, port, messages, work, args), daemon=True)
        for rank in range(devices)
    ]
    for process in processes:
        process.start()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    forwarded = _forward(processes, before)
    first: list[tuple[int, int]] = []
    try:
        _join(processes)
        first = _failed(processes)  # before others are ended, who wait for them
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _end(processes)
    _report(first or _failed(processes), devices, messages, forwarded)


def _forward(processes: list[BaseProcess], before: dict[signal.Signals, Any]) -> list[int]:
    """Pass the first SIGINT or SIGTERM to the processes as SIGTERM; the second acts as before."""
    received: list[int] = []

    def handle(number: int, frame: Any) -> None:
        received.append(number)
        for process in processes:
            process.terminate()
        signal.signal(number, before[signal.Signals(number)])

    if threading.current_thread() is threading.main_thread():
        for number in before:
            signal.signal(number, handle)
    return received


def _join(processes: list[BaseProcess]) -> None:
    """Wait until all have ended, or one has failed."""
    running = list(processes)
    while running and not any(process.exitcode for process in processes):
        wait([process.sentinel for process in running])
        running = [process for process in running if process.is_alive()]


def _end(processes: list[BaseProcess]) -> None:
    """End those that still run: they wait for one that is gone."""
    for process in processes:
        process.join(GRACE if any(p.exitcode for p in processes) else 0)
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()


def _failed(processes: list[BaseProcess]) -> list[tuple[int, int]]:
    """(rank, exit code) of those that failed."""
    return [(rank, process.exitcode) for rank, process in enumerate(processes) if process.exitcode]


def _report(failed: list[tuple[int, int]], devices: int, messages: Any, forwarded: list[int]) -> None:
    """Raise what went wrong, the clearest first."""
    told: list[tuple[str, str]] = []
    while not messages.empty():
        told.append(messages.get())
    for name, text in told:
        if name == "KeyboardInterrupt":
            raise KeyboardInterrupt(text)
        if issubclass(getattr(errors, name, Exception), NolabelError):
            raise getattr(errors, name)(text)
    if forwarded and failed:
        raise KeyboardInterrupt("Interrupted before the first step.")
    for rank, code in failed:
        if code < 0:
            cause = f"was ended by {signal.Signals(-code).name}"
            raise RunError(
                f"Process {rank} of {devices} {cause}, perhaps for want of memory: go on from the last "
                "checkpoint with --resume."
            )
    if failed:
        raise RuntimeError("\n".join(text for _, text in told) or f"Process {failed[0][0]} failed.")


def _child(
    rank: int, devices: int, port: int, messages: Any, work: Callable[..., Any], args: Sequence[Any]
) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A parent that is killed cannot end its children.
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "nolabel", "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0",
        "WORLD_SIZE": str(devices), "LOCAL_WORLD_SIZE": str(devices),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    try:
        work(*args)
        torch.distributed.destroy_process_group()
    except BaseException as error:
        known = isinstance(error, NolabelError | KeyboardInterrupt)
        name = "KeyboardInterrupt" if isinstance(error, KeyboardInterrupt) else type(error).__name__
        messages.put((name, str(error) if known else traceback.format_exc()))
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
