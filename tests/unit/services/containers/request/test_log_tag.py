"""The tag of a log says of the container what its template asks for, as in dockerd."""

from __future__ import annotations

import pytest

from teul.errors import InvalidParameter
from teul.services.containers.request.log_tag import render_tag
from unit.services.containers import cases

CONTAINER = cases.container({"Cmd": ["sh", "-c", "true"], "Labels": {"a": "b"}, "Env": ["X=y"]})


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.ID}}", CONTAINER.id[:12]),
        ("{{.FullID}}", CONTAINER.id),
        ("{{.Name}}/{{.ContainerName}}", "swift_noether//swift_noether"),
        ("{{.Command}}", "sh -c true"),
        ("{{.ImageID}} {{.ImageFullID}}", "ab" * 6 + " sha256:" + "ab" * 32),
        ("{{.ImageName}}@{{.Hostname}}", "shell@host"),
        ("{{.DaemonName}}", "docker"),
        ('{{with .ContainerLabels}}{{index . "a"}}{{end}}', "b"),
        ("{{json .ContainerEnv}}", '["X=y"]'),
        ("{{.Name | upper}}", "SWIFT_NOETHER"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert render_tag(template, CONTAINER, "host") == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Nope}}", 'template: log-tag:1:2: executing "log-tag" at <.Nope>: can\'t evaluate field Nope in type *logger.Info'),
        ("{{.ID", "template: :1: unclosed action"),
    ],
)
def test_what_a_template_cannot_say(template: str, text: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        render_tag(template, CONTAINER, "host")
    assert raised.value.message == text
