"""Runs rows with both contenders in turn (A B A B …) and turns their rounds into results."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.contender import Contender, NotYet
from bench.row import Row


@dataclass(frozen=True, slots=True)
class Result:
    """One printed line. `figures` has every round of every contender that could do it, `notes` the others' reasons."""

    name: str
    budget: float
    unit: str
    absolute: bool
    figures: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float | None:
        return statistics.median(self.figures[name]) if self.figures.get(name) else None

    @property
    def ratio(self) -> float | None:
        """Teul's figure as a part of dockerd's."""
        ours, theirs = self.median("teul"), self.median("dockerd")
        return ours / theirs if ours is not None and theirs else None

    @property
    def is_within_budget(self) -> bool | None:
        judged = self.median("teul") if self.absolute else self.ratio
        return None if judged is None else judged <= self.budget


def run_row(row: Row, contenders: Sequence[Contender], *, rounds: int) -> Result:
    """Prepare both, one unmeasured round each, then `rounds` in turn; clean up whatever happens. Who cannot do it is left out."""
    result = Result(row.name, row.budget, row.unit, row.absolute, {contender.name: [] for contender in contenders})
    able: list[Contender] = []
    try:
        for contender in contenders:
            try:
                row.prepare(contender)
                if rounds > 1 and row.warm_up:
                    row.measure(contender)
            except NotYet as reason:
                result.notes[contender.name] = f"not yet: {reason}"
            else:
                able.append(contender)
        for number in range(rounds):
            # Who goes first changes, so that neither always pays for what the other left in the caches.
            for contender in tuple(able) if number % 2 == 0 else tuple(reversed(able)):
                try:
                    result.figures[contender.name].append(row.measure(contender))
                except NotYet as reason:
                    result.notes[contender.name] = f"not yet: {reason}"
                    able.remove(contender)
    finally:
        row.close()
        for contender in contenders:
            contender.clean()
    return result
