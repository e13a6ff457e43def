"""All randomness of the program: a generator is a function of (seed, purpose, step), never kept."""

import hashlib

import torch


def derive(seed: int, *path: str | int) -> int:
    """A 63-bit seed for `path` under `seed`; distinct paths give independent streams.

    The first word is the purpose. In use: "init", "order" (epoch), "views" (step), "labels" (epoch, block), "model"
    (step, rank), "prepare", "held_out", "health", "statistics", "pictures", "gallery", "pretext", "study", "heads",
    "split", "exemplar copies", "transfer" and "evaluate" (name, ...).
    """
    text = "\x1f".join([str(int(seed)), *(f"{type(part).__name__}:{part}" for part in path)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *path: str | int) -> torch.Generator:
    """A fresh CPU generator for `path` under `seed`."""
    return torch.Generator().manual_seed(derive(seed, *path))
