"""The kernel tier leaves nothing on the host."""

from __future__ import annotations

from support.leaks import nothing_left_on_the_host

__all__ = ["nothing_left_on_the_host"]
