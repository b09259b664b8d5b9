"""The rows of a large image: how it comes, goes, and is used. They stand in an order in which each finds what the one before has left."""

from __future__ import annotations

import statistics
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import debian_image, sampling
from bench.contender import Contender
from bench.debian_image import DebianImage
from bench.install import ensure_installed
from bench.registry import publish, registry
from bench.row import Options, Row, timed
from support.polling import eventually

PAGE_CACHE_CONTAINERS = 50
# The image, and the same layers as two images that have none in common.
_REPOSITORY, _HALVES = "bench/debian", ("bench/half-a", "bench/half-b")

# Written by the first row that wants them, for all.
_written: dict[Path, DebianImage] = {}
_published: set[Path] = set()


class ImageRow(Row):
    """The image lies on disk when `prepare` is over. A round takes dozens of seconds: there are few, and none for nothing."""

    rounds = 2
    quick_rounds = 1
    warm_up = False

    def prepare(self, contender: Contender) -> None:  # noqa: ARG002 - the image is the same for all
        if self.options.directory not in _written:
            ensure_installed(debian_image.PYTHON, "python3")
            _written[self.options.directory] = debian_image.write_debian_image(
                self.options.directory, scale=0.1 if self.options.quick else 1.0
            )

    @property
    def image(self) -> DebianImage:
        return _written[self.options.directory]

    def load(self, contender: Contender) -> None:
        contender.upload("/images/load?quiet=1", str(self.image.path))

    def ensure_loaded(self, contender: Contender) -> None:
        if contender.api.request("GET", f"/images/{debian_image.NAME}/json").status == 404:
            self.load(contender)

    def create(self, contender: Contender, *command: str) -> str:
        return contender.create(*command, network="none", Image=debian_image.NAME)

    def run(self, contender: Contender, *command: str) -> None:
        contender.run(*command, network="none", Image=debian_image.NAME)


class RegistryRow(ImageRow):
    """A registry has the image, and its halves, when `prepare` is over."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._stack = ExitStack()
        self.address = ""

    def prepare(self, contender: Contender) -> None:
        super().prepare(contender)
        if self.address:
            return
        storage = self.options.directory / "registry"
        self.address = self._stack.enter_context(registry(storage))
        if storage not in _published:
            _published.add(storage)
            half = len(self.image.layers) // 2
            for name, layers in zip(
                (_REPOSITORY, *_HALVES), (self.image.layers, self.image.layers[:half], self.image.layers[half:]), strict=True
            ):
                publish(self.address, name, layers)

    def close(self) -> None:
        self._stack.close()

    def remove_pulled(self, contender: Contender) -> None:
        """The image, by every name that it may have here."""
        for name in (debian_image.NAME, *(f"{self.address}/{name}:1" for name in (_REPOSITORY, *_HALVES))):
            contender.remove_image(name)
        contender.clean()

    def pull(self, contender: Contender, repository: str) -> None:
        with contender.connect() as connection:
            contender.call(200, "POST", f"/images/create?fromImage={self.address}/{repository}&tag=1", client=connection)


class Memory(RegistryRow):
    name = "peak memory, all processes, load and pull"
    budget = 300e6
    rounds = 1
    unit = "bytes"
    absolute = True

    def measure(self, contender: Contender) -> float:
        self.remove_pulled(contender)
        with sampling.peak_memory(contender.host.pid) as peak:
            self.load(contender)
            self.remove_pulled(contender)
            self.pull(contender, _REPOSITORY)
        self.remove_pulled(contender)
        return peak()


class Pull(RegistryRow):
    name = "pull of a large image, gzip layers"
    budget = 0.30

    def measure(self, contender: Contender) -> float:
        self.remove_pulled(contender)
        seconds = timed(lambda: self.pull(contender, _REPOSITORY))
        self.remove_pulled(contender)
        return seconds


class Answers(RegistryRow):
    name = "GET /_ping during two pulls, 99th percentile"
    budget = 0.020
    rounds = 1
    absolute = True

    def measure(self, contender: Contender) -> float:
        self.remove_pulled(contender)
        failures: list[BaseException] = []

        def pull(repository: str) -> None:
            try:
                self.pull(contender, repository)
            except BaseException as error:  # noqa: BLE001 - carried to the main thread, where it ends the row
                failures.append(error)

        threads = [threading.Thread(target=pull, args=(repository,)) for repository in _HALVES]
        with contender.connect() as connection, sampling.ping_seconds(connection) as percentile:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if failures:
            raise failures[0]
        self.remove_pulled(contender)
        return percentile()


class Load(ImageRow):
    name = "load of a large image"
    budget = 0.25

    def measure(self, contender: Contender) -> float:
        contender.remove_image(debian_image.NAME)
        contender.clean()
        return timed(lambda: self.load(contender))


class LoadedRow(ImageRow):
    """The engine has the image when `prepare` is over."""

    def prepare(self, contender: Contender) -> None:
        super().prepare(contender)
        self.ensure_loaded(contender)


class Save(LoadedRow):
    name = "save of a large image"
    budget = 0.30

    def measure(self, contender: Contender) -> float:
        contender.clean()
        received: list[tuple[int, int]] = []
        seconds = timed(lambda: received.append(contender.api.download(f"/images/{debian_image.NAME}/get")))
        status, size_bytes = received[0]
        if status != 200 or size_bytes < 0.95 * self.image.size_bytes:
            raise RuntimeError(f"{contender.name}: {status}, and an archive of {size_bytes} bytes")
        return seconds


class Export(LoadedRow):
    name = "export of a container of a large image"
    budget = 0.70
    rounds = 3
    warm_up = True

    def measure(self, contender: Contender) -> float:
        container = self.create(contender, "true")
        received: list[tuple[int, int]] = []
        seconds = timed(lambda: received.append(contender.api.download(f"/containers/{container}/export")))
        contender.remove(container)
        status, size_bytes = received[0]
        if status != 200 or size_bytes < 0.90 * self.image.size_bytes:
            raise RuntimeError(f"{contender.name}: {status}, and an archive of {size_bytes} bytes")
        return seconds


class Push(LoadedRow):
    name = "push of a large image to an empty registry"
    budget = 0.30

    def measure(self, contender: Contender) -> float:
        contender.clean()
        with registry() as address:
            name = f"{address}/{_REPOSITORY}:1"
            contender.host.must("tag", debian_image.NAME, name)
            try:
                return timed(lambda: contender.host.must("push", "--quiet", name, timeout_seconds=600.0))
            finally:
                contender.remove_image(name)


class FirstRead(LoadedRow):
    name = "first read of all files of an image, nothing cached"
    budget = 1.1

    def measure(self, contender: Contender) -> float:
        container = self.create(contender, debian_image.READ_ALL)
        sampling.drop_caches()

        def read() -> None:
            contender.start(container)
            if code := contender.wait(container):
                raise RuntimeError(f"{contender.name}: reading ended with {code}")

        seconds = timed(read)
        contender.remove(container)
        return seconds


class Python(LoadedRow):
    name = 'python3 -c "import json, asyncio, …" in a container'
    budget = 1.05
    rounds = 11
    quick_rounds = 3
    warm_up = True

    def measure(self, contender: Contender) -> float:
        program = "import json, asyncio, http.server, ssl, sqlite3"
        return timed(lambda: self.run(contender, debian_image.PYTHON, "-c", program))


class Start(LoadedRow):
    """Compared with itself: the same of the small image, in turn."""

    name = "run of the large image against one of busybox"
    budget = 1.1
    rounds = 5
    unit = "ratio"
    absolute = True
    warm_up = True

    def measure(self, contender: Contender) -> float:
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(5 if self.options.quick else 15):
            times[0].append(timed(lambda: self.run(contender, "true")))
            times[1].append(timed(lambda: contender.run("true", network="none")))
        return statistics.median(times[0]) / statistics.median(times[1])


class PageCache(LoadedRow):
    name = f"page cache of {PAGE_CACHE_CONTAINERS} containers that read the same files"
    budget = 1.1
    rounds = 1
    unit = "bytes"

    def measure(self, contender: Contender) -> float:
        sampling.drop_caches()
        before = sampling.cached_bytes()
        command = f"{debian_image.READ_ALL} {debian_image.LARGE_DIRECTORY} && echo read && exec sleep 100000"
        for _ in range(PAGE_CACHE_CONTAINERS // (10 if self.options.quick else 1)):
            container = self.create(contender, "sh", "-c", command)
            contender.start(container)
            eventually(partial(self._has_read, contender, container), "the container has read", timeout_seconds=60.0)
        return sampling.cached_bytes() - before

    def _has_read(self, contender: Contender, container: str) -> bool:
        return b"read\n" in contender.call(200, "GET", f"/containers/{container}/logs?stdout=1&stderr=1").body


class Removal(LoadedRow):
    name = "removal of a large image"
    budget = 0.10
    rounds = 1

    def measure(self, contender: Contender) -> float:
        self.ensure_loaded(contender)
        contender.clean()
        return timed(lambda: contender.remove_image(debian_image.NAME))


ROWS: tuple[type[Row], ...] = (Memory, Pull, Answers, Load, Save, Export, Push, FirstRead, Python, Start, PageCache, Removal)
