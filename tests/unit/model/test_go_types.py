"""Values of a wrong type, in Go's words."""

from __future__ import annotations

import pytest

from teul.errors import InvalidParameter
from teul.model.config import decode_create_body
from teul.model.document import Document, decode
from teul.model.exec import ExecConfig
from teul.model.host_config import Resources
from teul.model.network_config import CreateNetwork


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("[]", "array into Go value of type container.CreateRequest"),
        ('"x"', "string into Go value of type container.CreateRequest"),
        ('{"Image":5}', "number into Go struct field CreateRequest.Config.Image of type string"),
        ('{"Env":"x"}', "string into Go struct field CreateRequest.Config.Env of type []string"),
        ('{"Env":[1]}', "number into Go struct field CreateRequest.Config.Env of type string"),
        ('{"Cmd":{}}', "object into Go struct field CreateRequest.Config.Cmd of type []string"),
        ('{"Labels":[]}', "array into Go struct field CreateRequest.Config.Labels of type map[string]string"),
        ('{"labels":{"a":1}}', "number into Go struct field CreateRequest.Config.Labels of type string"),
        ('{"Tty":"yes"}', "string into Go struct field CreateRequest.Config.Tty of type bool"),
        ('{"ExposedPorts":{"80/tcp":5}}', "number into Go struct field CreateRequest.Config.ExposedPorts of type struct {}"),
        ('{"Healthcheck":{"Interval":"1s"}}', "string into Go struct field HealthConfig.Config.Healthcheck.Interval of type time.Duration"),
        ('{"StopTimeout":"5"}', "string into Go struct field CreateRequest.Config.StopTimeout of type int"),
        ('{"Image":"b","HostConfig":5}', "number into Go struct field CreateRequest.HostConfig of type container.HostConfig"),
        ('{"HostConfig":{"Memory":1.5}}', "number 1.5 into Go struct field HostConfig.HostConfig.Resources.Memory of type int64"),
        (
            '{"HostConfig":{"Memory":9223372036854775808}}',
            "number 9223372036854775808 into Go struct field HostConfig.HostConfig.Resources.Memory of type int64",
        ),
        (
            '{"HostConfig":{"BlkioWeight":70000}}',
            "number 70000 into Go struct field HostConfig.HostConfig.Resources.BlkioWeight of type uint16",
        ),
        ('{"HostConfig":{"NetworkMode":1}}', "number into Go struct field HostConfig.HostConfig.NetworkMode of type container.NetworkMode"),
        ('{"HostConfig":{"ConsoleSize":[1,"a"]}}', "string into Go struct field HostConfig.HostConfig.ConsoleSize of type uint"),
        (
            '{"HostConfig":{"PortBindings":{"80/tcp":5}}}',
            "number into Go struct field HostConfig.HostConfig.PortBindings of type []network.PortBinding",
        ),
        (
            '{"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":80}]}}}',
            "number into Go struct field PortBinding.HostConfig.PortBindings.HostPort of type string",
        ),
        ('{"HostConfig":{"Mounts":[5]}}', "number into Go struct field HostConfig.HostConfig.Mounts of type mount.Mount"),
        (
            '{"HostConfig":{"Mounts":[{"BindOptions":{"Propagation":1}}]}}',
            "number into Go struct field BindOptions.HostConfig.Mounts.BindOptions.Propagation of type mount.Propagation",
        ),
        (
            '{"HostConfig":{"Ulimits":[{"Soft":"a"}]}}',
            "string into Go struct field Ulimit.HostConfig.Resources.Ulimits.Soft of type int64",
        ),
        # The first in the document is told.
        ('{"HostConfig":{"CapAdd":1},"User":2}', "number into Go struct field HostConfig.HostConfig.CapAdd of type []string"),
        ('{"User":2,"HostConfig":{"CapAdd":1}}', "number into Go struct field CreateRequest.Config.User of type string"),
        (
            '{"NetworkingConfig":{"EndpointsConfig":{"a":{"Aliases":[4]}}}}',
            "number into Go struct field EndpointSettings.NetworkingConfig.EndpointsConfig.Aliases of type string",
        ),
    ],
)
def test_a_request_to_create(body: str, words: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        decode_create_body(body.encode())
    assert caught.value.message == f"invalid JSON: json: cannot unmarshal {words}"


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (ExecConfig, '{"Cmd":5}', "number into Go struct field ExecCreateRequest.Cmd of type []string"),
        (CreateNetwork, '{"IPAM":{"Config":[{"Subnet":1}]}}', "number into Go struct field IPAMConfig.IPAM.Config.Subnet of type string"),
        (CreateNetwork, "5", "number into Go value of type network.CreateRequest"),
        (Resources, '{"Memory":true}', "bool into Go struct field UpdateConfig.Resources.Memory of type int64"),
    ],
)
def test_other_requests(kind: type[Document], body: str, words: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        decode(kind, body.encode())
    assert caught.value.message == f"invalid JSON: json: cannot unmarshal {words}"


@pytest.mark.parametrize(
    "body",
    [
        '{"Image":null,"Env":null,"HostConfig":{"Memory":null,"Mounts":null,"LogConfig":null},"NetworkingConfig":{"EndpointsConfig":{"a":null}}}',
        '{"Cmd":"one","HostConfig":{"CapAdd":"ALL","PortBindings":{"80/tcp":null},"ConsoleSize":[1,2],"PidsLimit":-1}}',
        '{"Image":"x","Nobody":{"knows":[1]},"HostConfig":{"Nor":1},"ExposedPorts":{"80/tcp":{"x":1}},"Volumes":{"/v":null}}',
    ],
)
def test_what_every_field_can_hold(body: str) -> None:
    decode_create_body(body.encode())
