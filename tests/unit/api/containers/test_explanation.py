"""GET /teul/containers/{id}/network/explanation: what is asked, and the document that answers."""

from __future__ import annotations

from teul.errors import InvalidParameter
from teul.model.explanation import Explanation, NetworkSide, Path, Step, Verdict
from teul.services.containers.explanations import Explanations
from unit.api.served_api import Api


class FakeExplanations(Explanations):
    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    async def explain(self, reference: str, *, port: str = "", asker: str = "") -> Explanation:
        self.asked.append((reference, port, asker))
        if port == "x":
            raise InvalidParameter('invalid port: "x"')
        step = Step(where="container web", what="does not run: exited", action="refused")
        path = Path(
            source="web",
            destination="elsewhere",
            direction="out",
            ip_version=4,
            protocol="tcp",
            port=0,
            steps=[step],
            verdict=Verdict(result="refused", step=1, reason="the container is not running", remedy="teul start web"),
        )
        return Explanation(
            id="c" * 64, name="web", running=False, networks=[NetworkSide(name="bridge", driver="bridge")], names=[], paths=[path], notes=[]
        )


async def test_the_document_has_every_member(api: Api) -> None:
    """Also what is empty: a program need not ask whether there is any."""
    fake = FakeExplanations()
    api.services.explanations = fake
    assert await api.request("GET", "/teul/containers/web/network/explanation?port=127.0.0.1:80&from=192.0.2.7") == (
        200,
        {
            "Id": "c" * 64,
            "Name": "web",
            "Running": False,
            "Networks": [
                {
                    "Name": "bridge",
                    "Driver": "bridge",
                    "Internal": False,
                    "Bridge": "",
                    "HostInterface": "",
                    "Interface": "",
                    "MacAddress": "",
                    "Addresses": [],
                    "Gateways": [],
                    "WayOut": [],
                }
            ],
            "Names": [],
            "Paths": [
                {
                    "Source": "web",
                    "Destination": "elsewhere",
                    "Direction": "out",
                    "IpVersion": 4,
                    "Protocol": "tcp",
                    "Port": 0,
                    "Steps": [{"Where": "container web", "What": "does not run: exited", "Action": "refused", "Evidence": []}],
                    "Verdict": {"Result": "refused", "Step": 1, "Reason": "the container is not running", "Remedy": "teul start web"},
                }
            ],
            "Notes": [],
        },
    )
    await api.request("GET", "/v1.47/teul/containers/web/network/explanation")
    assert fake.asked == [("web", "127.0.0.1:80", "192.0.2.7"), ("web", "", "")]


async def test_what_is_no_port_is_refused(api: Api) -> None:
    api.services.explanations = FakeExplanations()
    answer = await api.request("GET", "/teul/containers/web/network/explanation?port=x")
    assert answer == (400, {"message": 'invalid port: "x"'})
