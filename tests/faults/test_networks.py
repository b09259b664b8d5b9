"""What an engine makes on the host before any container starts: bridge and rules."""

from __future__ import annotations

import subprocess

from faults.judge import assert_usable, assert_whole
from faults.victim import Victim, cases
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "busybox", "overlayfs", "nft")]


@cases(
    {
        "networks.bridge.made": "kill error",
        "networks.bridge.recorded": "kill",
        "networks.firewall.made": "kill error",
    },
)
def test_network_is_set_up_in_the_end(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """By the next engine, or when a container needs it."""
    victim.stop()
    victim.arm(point, way, occurrence=occurrence)
    if way == "kill":
        victim.start_and_die()
    else:
        victim.start()
        victim.await_strike(point, way)
    assert_usable(victim, "hit")
    table = subprocess.run(["nft", "list", "table", "inet", victim.names.table], check=True, capture_output=True, text=True).stdout
    assert f'elements = {{ "{victim.names.bridge}" }}' in table
    victim.stop()
    eventually(lambda: victim.links() == set(), "no link is left")
    assert not victim.has_network(), "what was set up outlives an engine without containers"
    victim.start()
    assert_whole(victim)
