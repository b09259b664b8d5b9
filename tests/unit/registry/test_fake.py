"""The tests' registry, served by a thread of its own."""

from __future__ import annotations

from http.client import HTTPConnection

from support.registry import FakeRegistry, serving


def test_an_engine_elsewhere_may_ask_it() -> None:
    with serving(FakeRegistry()) as registry:
        connection = HTTPConnection(registry.host)
        connection.request("GET", "/v2/")
        assert connection.getresponse().status == 200
        connection.close()
    assert [seen.path for seen in registry.seen] == ["/v2/"]
