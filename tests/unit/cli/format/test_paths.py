"""Paths of packets as text and as a picture."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

from teul.cli.format.path_picture import draw
from teul.cli.format.paths import render

HOSTILE = "\x1b[2J<script>alert('&\"')</script>]]>\u202e\x00"


def explanation(*paths: dict[str, Any], **changes: Any) -> dict[str, Any]:
    network = {
        "Name": "bridge",
        "Driver": "bridge",
        "Internal": False,
        "Bridge": "teul0",
        "HostInterface": "vethabc0",
        "Interface": "eth0",
        "MacAddress": "02:42:ac:11:00:02",
        "Addresses": ["172.17.0.2/16"],
        "Gateways": ["172.17.0.1"],
        "WayOut": [4],
    }
    document = {
        "Id": "c" * 64,
        "Name": "web",
        "Running": True,
        "Networks": [network],
        "Names": ["asks 192.0.2.53"],
        "Notes": [],
        "Paths": paths,
    }
    return {**document, **changes}


def step(where: str = "interface eth0", what: str = "comes in", action: str = "passes", evidence: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"Where": where, "What": what, "Action": action, "Evidence": [*evidence]}


def packet(*steps: dict[str, Any], result: str = "reaches", reason: str = "", remedy: str = "", **changes: Any) -> dict[str, Any]:
    verdict = {"Result": result, "Step": len(steps) if reason else 0, "Reason": reason, "Remedy": remedy}
    document = {
        "Source": "another host",
        "Destination": "203.0.113.1:8080",
        "Direction": "in",
        "IpVersion": 4,
        "Protocol": "tcp",
        "Port": 8080,
        "Steps": [*steps],
        "Verdict": verdict,
    }
    return {**document, **changes}


REFUSED = packet(
    step(),
    step(
        "table inet teul, chain prerouting", "translated: goes to 172.17.0.2:80", "translated", ("ports4 { tcp . 8080 : 172.17.0.2 . 80 }",)
    ),
    step("container web", "nobody listens on port 80/tcp", "refused"),
    result="refused",
    reason="nothing listens on port 80/tcp inside",
    remedy="teul logs web",
)


def test_text() -> None:
    outward = packet(step("container web", "default route"), Source="web", Destination="elsewhere", Port=0)
    assert render(explanation(REFUSED, outward, Notes=["a note"])) == (
        "web (cccccccccccc)\n"
        "  note: a note\n"
        "  network bridge (bridge): 172.17.0.2/16; 02:42:ac:11:00:02; eth0 inside; vethabc0 on bridge teul0; gateway 172.17.0.1; "
        "the way out of IPv4\n"
        "  names: asks 192.0.2.53\n"
        "\n"
        "another host → 203.0.113.1:8080/tcp: REFUSED at step 3: nothing listens on port 80/tcp inside\n"
        "   1 → interface eth0: comes in\n"
        "   2 ⇒ table inet teul, chain prerouting: translated: goes to 172.17.0.2:80\n"
        "         ports4 { tcp . 8080 : 172.17.0.2 . 80 }\n"
        "   3 ✗ container web: nobody listens on port 80/tcp\n"
        "  what to do: teul logs web\n"
        "\n"
        "web → elsewhere, IPv4: reaches\n"
        "   1 → container web: default route\n"
    )


def test_verdicts_have_colours_on_a_terminal() -> None:
    assert "\x1b[31mREFUSED at step 3" in render(explanation(REFUSED), fancy=True)
    assert "\x1b" not in render(explanation(REFUSED))


def hostile() -> dict[str, Any]:
    bad = packet(step(HOSTILE, HOSTILE, HOSTILE, (HOSTILE,)), result="dropped", reason=HOSTILE, remedy=HOSTILE, Source=HOSTILE)
    found = explanation(bad, Name=HOSTILE, Names=[HOSTILE], Notes=[HOSTILE], Running=False)
    found["Networks"][0]["Name"] = HOSTILE
    return found


def test_text_of_others_does_not_reach_the_terminal_as_it_is() -> None:
    text = render(hostile())
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_a_picture_is_xml_that_says_what_the_text_says() -> None:
    root = ET.fromstring(draw(explanation(REFUSED)))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = " ".join(text for text in root.itertext() if text.strip())
    for expected in ("another host → 203.0.113.1:8080/tcp", "REFUSED at step 3", "ports4 { tcp . 8080", "what to do: teul logs web"):
        assert expected in words, expected
    boxes = [each.get("class") for each in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert boxes == ["paper", "box passes", "box translated", "box refused"]


def test_a_picture_holds_nothing_of_others_but_text() -> None:
    root = ET.fromstring(draw(hostile()))
    names = {each.tag.rpartition("}")[2] for each in root.iter()}
    assert names == {"svg", "title", "style", "defs", "marker", "path", "rect", "text"}
    assert {each.get("class") for each in root.iter("{http://www.w3.org/2000/svg}rect")} == {"paper", "box "}
    assert not any(name.startswith("on") or name == "href" for each in root.iter() for name in each.attrib)


def test_a_picture_is_for_light_and_dark_and_needs_nothing_from_elsewhere() -> None:
    text = draw(explanation(REFUSED))
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "@import" not in text


def test_what_is_long_stays_inside_its_box() -> None:
    """Boxes of a row stand beside each other, rows below; a text that is too long is cut with a sign."""
    steps = [step(evidence=("x" * 400, "y " * 300)) for _ in range(7)]
    root = ET.fromstring(draw(explanation(packet(*steps))))
    width, height = int(root.get("width", "0")), int(root.get("height", "0"))
    boxes = [each for each in root.iter("{http://www.w3.org/2000/svg}rect") if each.get("class") != "paper"]
    places = {(int(each.get("x", "0")), int(each.get("y", "0"))) for each in boxes}
    assert len(places) == 7
    assert len({y for _, y in places}) == 2
    for each in boxes:
        assert int(each.get("x", "0")) + int(each.get("width", "0")) <= width
        assert int(each.get("y", "0")) + int(each.get("height", "0")) <= height
    texts = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "…" in texts
    assert max(len(text) for text in texts if set(text) <= {"x"} and text) <= 30
