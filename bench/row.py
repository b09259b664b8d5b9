"""What every row of the table is: its name, its budget, and how one round of it is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contender import Contender


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes of this run; `quick` ones tell whether it works, not how fast it is."""

    quick: bool
    others: int
    containers: int
    directory: Path


class Row:
    """One line of the table. Instances keep what `prepare` made, one per contender's name.

    The budget is what Teul may need of dockerd's figure; with `absolute`, of its own, in the row's unit: "s", "bytes" or "ratio".
    A row of more than one round is measured once for nothing, unless it is not to `warm_up`.
    """

    name = ""
    budget = 1.0
    rounds = 15
    quick_rounds = 3
    unit = "s"
    absolute = False
    warm_up = True

    def __init__(self, options: Options) -> None:
        self.options = options
        self.made: dict[str, Any] = {}

    def prepare(self, contender: Contender) -> None:
        """Make what every round needs."""

    def measure(self, contender: Contender) -> float:
        raise NotImplementedError

    def close(self) -> None:
        """Give back what is not a contender's."""


def timed(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
