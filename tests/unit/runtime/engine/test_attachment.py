"""What a client reads of a process, from the engine's end of the connection."""

from __future__ import annotations

from teul.runtime.engine.attachment import Attachment
from teul.wire import monitor as wire


async def test_whoever_leaves_the_iteration_finds_the_rest_when_he_comes_back() -> None:
    """The last words and the end come together as a rule."""
    attachment, far = await Attachment.pending(terminal=True, wants={"stdin": False, "stdout": True, "stderr": True})
    with far:
        far.sendall(wire.frame(wire.STDOUT, b"one") + wire.frame(wire.STDOUT, b"two") + wire.frame(wire.EXITED))
    async for output in attachment:
        assert output == (wire.STDOUT, b"one")
        break
    assert [output async for output in attachment] == [(wire.STDOUT, b"two")]
    assert [output async for output in attachment] == []
    await attachment.close()
