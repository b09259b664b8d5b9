"""`python -m bench`: a private dockerd and a private Teul, the same image, the same client, every row in turn; medians and ratios.

Exit code 0 whatever the figures are (they are for people to judge) unless `--strict` is given.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
# The race borrows the tests' engines, images and HTTP client.
sys.path[:0] = [str(HOME / "tests"), str(HOME)]

from bench import data_rows, image_rows, network_rows, report, rows  # noqa: E402 - after the path
from bench.contender import Contender  # noqa: E402
from bench.install import ensure_installed  # noqa: E402
from bench.race import Result, run_row  # noqa: E402
from bench.row import Options  # noqa: E402
from support import images  # noqa: E402
from support.dockerd import Dockerd  # noqa: E402
from support.engine import Engine  # noqa: E402


def main() -> int:
    options = _parse()
    if os.geteuid() != 0:
        print("bench: needs root: it starts two container engines", file=sys.stderr)
        return 2
    ensure_installed("dockerd", "docker.io")
    ensure_installed("busybox", "busybox-static")
    if "dockerd" in options.engines:
        ensure_installed("docker", "docker.io")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the engines are ended, too
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="teul-bench-")))
        contenders = [_start(name, stack) for name in options.engines]
        sizes = Options(quick=options.quick, others=options.others, containers=options.containers, directory=directory)
        results = _race(contenders, sizes, options.rows, options.rounds)
        versions = {contender.name: contender.call(200, "GET", "/version").json()["Version"] for contender in contenders}
        print(f"\nwritten to {report.save(results, HOME / 'build' / 'bench', versions)}")
    return 1 if options.strict and any(result.is_within_budget is False for result in results) else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds and small sizes: does it run, not how fast")
    parser.add_argument("--rows", metavar="TEXT", help="only rows whose name contains one of these, comma-separated")
    parser.add_argument("--rounds", type=int, help="rounds per row, instead of each row's own number")
    parser.add_argument("--others", type=int, help="containers that merely exist in the last row (default 500, quick 50)")
    parser.add_argument("--containers", type=int, help="running containers in the memory row (default 20, quick 5)")
    parser.add_argument("--engines", default="dockerd,teul", help="who runs (default: dockerd,teul)")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a row is over its budget")
    options = parser.parse_args()
    options.engines = options.engines.split(",")
    options.others = options.others or (50 if options.quick else 500)
    options.containers = options.containers or (5 if options.quick else 20)
    return options


def _start(name: str, stack: ExitStack) -> Contender:
    if name == "dockerd":
        dockerd = stack.enter_context(Dockerd(shared_network=True))
        contender = Contender(name, dockerd, dockerd.engine_processes, dockerd.docker)
    else:
        engine = stack.enter_context(Engine(guarded=False))
        contender = Contender(name, engine, engine.engine_processes, engine.teul)
    stack.callback(contender.api.close)
    contender.host.load(images.busybox().docker_archive())
    return contender


def _race(contenders: list[Contender], sizes: Options, wanted: str | None, rounds: int | None) -> list[Result]:
    print(report.head(), flush=True)
    results: list[Result] = []
    for kind in (*rows.ROWS, *network_rows.ROWS, *data_rows.ROWS, *image_rows.ROWS):
        if wanted is not None and not any(text.strip() in kind.name for text in wanted.split(",")):
            continue
        row = kind(sizes)
        number = rounds or (row.quick_rounds if sizes.quick else row.rounds)
        results.append(run_row(row, contenders, rounds=number))
        print(report.line(results[-1]), flush=True)
    return results


if __name__ == "__main__":
    sys.exit(main())
