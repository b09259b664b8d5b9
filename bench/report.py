"""Prints results as a table and writes them as JSON."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.race import Result

_HEAD = f"{'work':<56} {'dockerd':>10} {'teul':>10} {'ratio':>7} {'budget':>9}"


def head() -> str:
    return f"{_HEAD}\n{'-' * len(_HEAD)}"


def line(result: Result) -> str:
    """One row: medians, ratio, budget and whether it is kept; or why there is none."""
    figures = [_figure(result.median(name), result.unit) for name in ("dockerd", "teul")]
    ratio = "" if result.ratio is None else f"{result.ratio:.3f}"
    verdict = {None: "", True: "ok", False: "OVER"}[result.is_within_budget]
    notes = "; ".join(f"{name}: {note}" for name, note in result.notes.items())
    budget = _figure(result.budget, result.unit) if result.absolute else f"{result.budget:.2f}"
    return f"{result.name:<56} {figures[0]:>10} {figures[1]:>10} {ratio:>7} {budget:>9} {verdict or notes}".rstrip()


def save(results: Sequence[Result], directory: Path, versions: dict[str, str]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"bench-{time.strftime('%Y%m%d-%H%M%S')}.json"
    rows = [
        {**asdict(result), "medians": {name: result.median(name) for name in result.figures}, "ratio": result.ratio} for result in results
    ]
    machine = {"kernel": os.uname().release, "cores": os.cpu_count(), "machine": os.uname().machine}
    path.write_text(json.dumps({"machine": machine, "versions": versions, "rows": rows}, indent=1) + "\n")
    return path


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    match unit:
        case "bytes":
            return f"{value / 1e6:.2f} MB"
        case "ratio":
            return f"x {value:.2f}"
    return f"{value * 1000:.1f} ms" if value < 10 else f"{value:.2f} s"
