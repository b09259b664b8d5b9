"""Images that go while containers are made of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from support.engine import Engine
from support.images import file, pack
from support.needs import needs
from support.unix_http import Client

pytestmark = [needs("root", "overlayfs")]

TRIES = 60


def test_a_container_that_could_be_made_has_its_layers(fresh_engine: Engine) -> None:
    """Whichever is first: no container, or one whose image stays until it goes itself."""
    snapshots = fresh_engine.root / "snapshots"
    before = sorted(snapshots.iterdir())
    with (
        Client(str(fresh_engine.socket_path)) as maker,
        Client(str(fresh_engine.socket_path)) as remover,
        ThreadPoolExecutor(1) as other,
    ):
        made = 0
        for number in range(TRIES):
            own = f"of image {number}"
            name = f"race:{number}"
            archive = pack([file("own", own)])
            path = f"/images/create?fromSrc=-&repo=race&tag={number}"
            assert maker.request("POST", path, archive, content_type="application/x-tar").status == 200
            removal = other.submit(remover.request, "DELETE", f"/images/{name}?force=1")
            created = maker.request("POST", "/containers/create", {"Image": name, "Cmd": ["/own"]})
            assert removal.result().status == 200
            assert created.status in {201, 404}, created.message
            if created.status == 404:
                continue
            made += 1
            container = created.json()["Id"]
            found = maker.request("GET", f"/containers/{container}/archive?path=/own")
            assert found.status == 200, found.message
            assert own.encode() in found.body
            assert maker.request("DELETE", f"/containers/{container}").status == 204
    assert sorted(snapshots.iterdir()) == before, f"{made} containers were made"
