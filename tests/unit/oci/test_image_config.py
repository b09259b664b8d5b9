"""The image config, as Docker and others write it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.image_models import image_of
from teul.oci.digest import Digest
from teul.oci.documents import InvalidDocument
from teul.oci.image_config import (
    MAX_CONFIG_BYTES,
    Healthcheck,
    History,
    ImageConfig,
    ImageDocument,
    RootFS,
    decode_image_config,
    encode_image_config,
)

DIFF_ID = Digest.of(b"layer")
ROOT = {"type": "layers", "diff_ids": [str(DIFF_ID)]}


def encoded(**members: Any) -> bytes:
    return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": ROOT, **members}).encode()


def test_keys_are_matched_in_any_case_and_the_last_one_wins() -> None:
    document = decode_image_config(
        encoded(Config={"cmd": ["a"], "CMD": ["b"], "labels": {"Key": "1", "key": "2"}, "HealthCheck": {"retries": 3}}, created_By="x")
    )
    assert document.config == ImageConfig(cmd=["b"], labels={"Key": "1", "key": "2"}, healthcheck=Healthcheck(retries=3))


def test_everything_docker_writes_is_there() -> None:
    document = decode_image_config(
        encoded(
            created="2024-01-02T03:04:05Z",
            docker_version="28.0.0",
            variant="v2",
            config={
                "User": "1:2",
                "ExposedPorts": {"80/tcp": {}, "81/tcp": {"x": 1}},
                "Env": ["A=1"],
                "Entrypoint": ["/e"],
                "Cmd": ["c"],
                "Volumes": {"/v": {}},
                "WorkingDir": "/w",
                "Labels": {"l": "m"},
                "StopSignal": "SIGINT",
                "OnBuild": ["RUN x"],
                "Shell": ["/bin/bash", "-c"],
                "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1, "Timeout": 2, "StartPeriod": 3, "StartInterval": 4, "Retries": 5},
                "Hostname": "left out",
            },
            history=[{"created": "2024-01-02T03:04:05Z", "created_by": "x", "empty_layer": True}],
        )
    )
    assert document.config == ImageConfig(
        user="1:2",
        exposed_ports={"80/tcp": {}, "81/tcp": {"x": 1}},
        env=["A=1"],
        entrypoint=["/e"],
        cmd=["c"],
        volumes={"/v": {}},
        working_dir="/w",
        labels={"l": "m"},
        stop_signal="SIGINT",
        on_build=["RUN x"],
        shell=["/bin/bash", "-c"],
        healthcheck=Healthcheck(test=["CMD", "x"], interval_ns=1, timeout_ns=2, start_period_ns=3, start_interval_ns=4, retries=5),
    )
    assert document.history == [History(created="2024-01-02T03:04:05Z", created_by="x", empty_layer=True)]
    assert str(document.platform) == "linux/amd64/v2"
    assert document.created_ns == 1_704_164_645_000_000_000
    assert list(document.diff_ids) == [DIFF_ID]


def test_null_is_the_same_as_absent() -> None:
    """Go writes null for every nil slice and map."""
    document = decode_image_config(
        encoded(config={"Env": None, "Cmd": None, "User": None, "Healthcheck": None}, history=None, created=None)
    )
    assert document.config == ImageConfig()
    assert document.created_ns is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"os": "linux"}', "invalid image JSON, no RootFS key"),
        (encoded(rootfs=None), "invalid image JSON, no RootFS key"),
        (encoded(rootfs={"type": "layers", "diff_ids": ["x"]}), "invalid image config: invalid checksum digest format"),
        (encoded(created="yesterday"), 'invalid image config: parsing time "yesterday"'),
        (encoded(history=[{"created": "never"}]), 'invalid image config: parsing time "never"'),
        (encoded(config={"Env": "A=1"}), "invalid image config: "),
        (b"nonsense", "invalid image config: "),
        (b" " * (MAX_CONFIG_BYTES + 1), "invalid image config: "),
    ],
)
def test_a_wrong_config_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        decode_image_config(data)
    assert caught.value.message.startswith(message)


def test_the_same_document_gives_the_same_bytes() -> None:
    document = ImageDocument(architecture="amd64", os="linux", config=ImageConfig(env=["A=1"]), rootfs=RootFS(diff_ids=[DIFF_ID]))
    data = encode_image_config(document)
    assert data == encode_image_config(decode_image_config(data))
    assert json.loads(data) == {"architecture": "amd64", "os": "linux", "config": {"Env": ["A=1"]}, "rootfs": ROOT}


def test_an_image_without_a_config_gives_an_empty_one() -> None:
    document = ImageDocument(rootfs=RootFS())
    assert list(ImageDocument().diff_ids) == []
    image = image_of(document)
    assert image.config == ImageConfig()
    assert image.labels == {}
    assert image.created_ns is None
