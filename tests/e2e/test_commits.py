"""Images of containers: consistent, usable at once, and made without harm to the container."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator

import docker
import pytest

from support import images
from support.engine import Engine
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "busybox", "overlayfs")]

# Two files that say the same, but while the second of them is written; each is replaced as a whole, and grown so that reading takes a while.
_PAIRS = """
n=0; mkdir /db
while :; do
    n=$((n + 1)); yes $n | head -c 300000 > /db/first.new; mv /db/first.new /db/first
    yes $n | head -c 300000 > /db/second.new; mv /db/second.new /db/second
done
"""
# What must hold at every moment: the second is as new as the first, or one step behind.
_LOOK = "a=$(head -n 1 /db/first); b=$(head -n 1 /db/second); echo $((a - b)) $(stat -c %s /db/first /db/second)"


@pytest.fixture(params=["erofs", "directory"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with Engine(extra=("--snapshotter", request.param)) as running:
        for image in (images.busybox(), images.layered()):
            running.load(image.docker_archive())
        yield running


def test_what_a_writer_has_is_of_one_moment(engine: Engine) -> None:
    engine.must("run", "-d", "--name", "writer", "busybox", "sh", "-c", _PAIRS)
    eventually(lambda: engine.docker("exec", "writer", "test", "-e", "/db/second").exit_code == 0, "it writes")
    for number in range(8):
        engine.must("commit", "writer", f"moment:{number}")
        behind, *sizes = engine.must("run", "--rm", f"moment:{number}", "sh", "-c", _LOOK).split()
        assert behind in {"0", "1"}
        assert sizes == ["300000", "300000"]
    assert engine.inspect("writer")["State"]["Status"] == "running"
    before = engine.must("exec", "writer", "head", "-n", "1", "/db/second")
    eventually(lambda: engine.must("exec", "writer", "head", "-n", "1", "/db/second") != before, "it goes on")


def test_a_paused_container_stays_paused(engine: Engine) -> None:
    engine.must("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    engine.must("pause", "box")
    engine.must("commit", "box", "made")
    assert engine.inspect("box")["State"]["Status"] == "paused"
    engine.must("unpause", "box")


def test_images_of_images_of_containers(engine: Engine) -> None:
    """What is removed is gone, what is there again is there; whiteouts of several layers; the image leaves and comes back."""
    engine.must("run", "--name", "one", "busybox", "sh", "-c", "mkdir /d; echo 1 > /d/a; echo 1 > /d/b")
    engine.must("commit", "one", "step:1")
    engine.must("run", "--name", "two", "step:1", "sh", "-c", "rm /d/a; ln /d/b /d/c; echo more >> /d/c")
    engine.must("commit", "two", "step:2")
    engine.must("run", "--name", "three", "step:2", "sh", "-c", "rm -r /d; mkdir /d; echo 3 > /d/a")
    engine.must("commit", "three", "step:3")
    assert engine.must("run", "--rm", "step:2", "sh", "-c", "cd /d; ls; cat b c") == "b\nc\n1\nmore\n1\nmore"
    assert engine.must("run", "--rm", "step:3", "sh", "-c", "cd /d; ls; cat a") == "a\n3"
    assert len(engine.must("history", "-q", "step:3").splitlines()) == len(engine.must("history", "-q", "busybox").splitlines()) + 3
    assert set(engine.must("images", "--filter", "since=step:1", "--format", "{{.Repository}}:{{.Tag}}").split()) == {"step:2", "step:3"}
    saved = subprocess.run(["docker", "save", "step:3"], env=engine.environment(), capture_output=True, check=True).stdout
    before = engine.inspect("step:3")["Id"]
    engine.remove_containers()
    engine.must("rmi", "step:1", "step:2", "step:3")
    engine.must("load", stdin=saved)
    assert engine.inspect("step:3")["Id"] == before
    assert engine.must("run", "--rm", "step:3", "cat", "/d/a") == "3"
    assert "0 damaged" in engine.teul("system", "check").stdout


def test_an_image_without_changes_has_no_layer_of_its_own(engine: Engine) -> None:
    engine.must("run", "--name", "box", "-v", "/volume/of/box", "--tmpfs", "/temporary", "busybox", "true")
    engine.must("commit", "box", "same")
    engine.must("create", "--name", "never", "busybox", "true")
    engine.must("commit", "never", "same:2")
    # The places that something was mounted at were made for it.
    assert len(engine.inspect("same")["RootFS"]["Layers"]) == len(engine.inspect("busybox")["RootFS"]["Layers"]) + 1
    assert engine.inspect("same:2")["RootFS"]["Layers"] == engine.inspect("busybox")["RootFS"]["Layers"]
    assert engine.must("history", "--format", "{{.CreatedBy}} {{.Size}}", "same:2").splitlines()[0] == "true 0B"


def test_the_same_changes_are_the_same_layer(engine: Engine) -> None:
    engine.must("run", "--name", "box", "busybox", "sh", "-c", "mkdir /made; echo 1 > /made/a; ln /made/a /made/b; rm /etc/passwd")
    for name in ("first", "second"):
        engine.must("commit", "box", name)
    assert engine.inspect("first")["RootFS"] == engine.inspect("second")["RootFS"]


def test_a_container_outlives_its_image_and_is_committed(engine: Engine) -> None:
    engine.must("run", "--name", "box", "judge/layers:1", "sh", "-c", "echo 1 > /tmp/made")
    engine.must("rmi", "-f", "judge/layers:1")
    output = engine.docker("commit", "box", "late")
    if "directory" in engine.must("info", "--format", "{{.Driver}}"):
        assert "not found" in output.stderr
        return
    assert output.exit_code == 0, output.stderr
    assert engine.must("run", "--rm", "late", "cat", "/tmp/made").splitlines()[-1] == "1"
    engine.remove_containers()
    engine.must("rmi", "late")
    assert "0 damaged" in engine.teul("system", "check").stdout


def test_names_that_mean_removals_are_refused(engine: Engine) -> None:
    engine.must("run", "-d", "--name", "box", "busybox", "sh", "-c", "mkdir /d; echo > /d/.wh.x; sleep 1000")
    eventually(lambda: engine.docker("exec", "box", "test", "-e", "/d/.wh.x").exit_code == 0, "it is there")
    output = engine.docker("commit", "box", "made")
    assert output.exit_code == 1
    assert '"/d/.wh.x" cannot be in a layer' in output.stderr
    assert engine.inspect("box")["State"]["Status"] == "running"
    engine.must("exec", "box", "rm", "/d/.wh.x")
    engine.must("commit", "box", "made")


def test_docker_py(engine: Engine) -> None:
    client = docker.DockerClient(base_url=f"unix://{engine.socket_path}", version="auto")
    try:
        container = client.containers.run("busybox", ["sh", "-c", "echo 1 > /made"], detach=True)
        container.wait()
        conf = {"Cmd": ["cat", "/made"], "Labels": {"a": "b"}}
        image = container.commit("made", "1", message="why", author="me", changes=["ENV A=b"], conf=conf)
        assert image.tags == ["made:1"]
        assert image.attrs["Author"] == "me"
        assert image.labels == {"a": "b"}
        assert client.containers.run("made:1", remove=True) == b"1\n"
        assert client.containers.prune(filters={"until": "2010-01-01"})["ContainersDeleted"] is None
        pruned = client.containers.prune()
        assert pruned["ContainersDeleted"] == [container.id]
        assert pruned["SpaceReclaimed"] > 0
    finally:
        client.close()


def test_holes_stay_holes(engine: Engine) -> None:
    """A file of 8 GiB that has two pages of data takes no more here, and leaves as it is."""
    script = "dd if=/dev/zero of=/sparse bs=1 count=1 seek=8G; echo middle | dd of=/sparse bs=1 seek=4G conv=notrunc"
    engine.must("run", "--name", "box", "busybox", "sh", "-c", script)
    engine.must("commit", "box", "sparse")
    look = "stat -c %s /sparse; dd if=/sparse bs=1 skip=4G count=7 2>/dev/null; tail -c 3 /sparse | wc -c"
    assert engine.must("run", "--rm", "sparse", "sh", "-c", look).split() == [str((8 << 30) + 1), "middle", "3"]
    saved = engine.run(["docker", "save", "sparse"], timeout_seconds=60)
    assert len(saved.stdout) < 20 << 20
    assert json.loads(engine.must("inspect", "sparse"))[0]["Size"] > 8 << 30


@pytest.fixture
def small_engine() -> Iterator[Engine]:
    """An engine whose root has 24 MiB."""
    with Engine(extra=("--disk-reserve", "0")) as running:
        running.stop()
        running.run(["mount", "-t", "tmpfs", "-o", "size=24m", "small", str(running.root)])
        try:
            running.start()
            running.load(images.busybox().docker_archive())
            yield running
            running.remove_containers()
            running.stop()
        finally:
            running.run(["umount", "-l", str(running.root)])


def test_a_full_disk_is_told_and_nobody_stands_still(small_engine: Engine) -> None:
    engine = small_engine
    engine.must("run", "-d", "--name", "box", "busybox", "sh", "-c", "head -c 9000000 /dev/urandom > /large; echo ready; sleep 1000")
    eventually(lambda: "ready" in engine.must("logs", "box"), "it has written")
    output = engine.docker("commit", "box", "made")
    assert output.exit_code == 1
    assert output.stderr.endswith("no space left on device\n")
    assert engine.inspect("box")["State"]["Status"] == "running"
    assert engine.must("exec", "box", "echo", "alive") == "alive"
    assert "made" not in engine.must("images", "--format", "{{.Repository}}")
    assert not list((engine.root / "tmp").iterdir())
    engine.must("exec", "box", "rm", "/large")
    engine.must("commit", "box", "made")


def test_export_of_the_image_has_what_the_container_has(engine: Engine) -> None:
    engine.must("run", "--name", "box", "busybox", "sh", "-c", "mkdir -p /a/b; echo x > /a/b/c; rm -r /home")
    engine.must("commit", "box", "made")
    engine.must("create", "--name", "copy", "made")
    names = []
    for name in ("box", "copy"):
        exported = subprocess.run(["docker", "export", name], env=engine.environment(), capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
            names.append(
                {(member.name, member.type, member.mode, member.size) for member in tar if not member.name.startswith(("etc/", "dev"))}
            )
    assert names[1] - names[0] == set()
    assert {name for name, *_ in names[0] - names[1]} <= {".dockerenv"}
