"""Records of containers for tests that need somebody who uses something."""

from __future__ import annotations

from teul.model.config import ContainerConfig
from teul.model.container import Container
from teul.model.host_config import HostConfig
from teul.model.lifecycle import started
from teul.oci.digest import Digest

SOME_IMAGE = Digest.of(b"some image")


def container_record(
    container_id: str = "c" * 64, image_id: Digest = SOME_IMAGE, *, name: str | None = None, created_at_ns: int = 0, running: bool = False
) -> Container:
    """The record of a container on `image_id`, with no more in it than a record must have."""
    container = Container(
        id=container_id,
        name=name or f"name-of-{container_id[:12]}",
        created_at_ns=created_at_ns,
        image_id=str(image_id),
        image_reference="",
        path="true",
        args=[],
        config=ContainerConfig(),
        host_config=HostConfig(),
    )
    if running:
        container.state = started(container.state, pid=1, now_ns=created_at_ns)
    return container
