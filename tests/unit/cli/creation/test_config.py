"""The options of `run` to the request for a container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from teul.cli.creation.config import build_config
from teul.cli.creation.mounts import parse_mount, split_csv
from teul.cli.creation.options import RUN_OPTIONS
from teul.cli.errors import UsageError
from teul.cli.options.parser import parse_options


def build(*arguments: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    options, rest = parse_options(RUN_OPTIONS, [*arguments, "image", "cmd", "-x"], interspersed=False)
    return build_config(options, rest, environment or {})


def host(*arguments: str) -> dict[str, Any]:
    config: dict[str, Any] = build(*arguments)["HostConfig"]
    return config


def test_without_options_it_is_what_docker_sends() -> None:
    assert build() == {
        "Hostname": "",
        "Domainname": "",
        "User": "",
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": [],
        "Cmd": ["cmd", "-x"],
        "Image": "image",
        "WorkingDir": "",
        "Entrypoint": None,
        "Labels": {},
        "HostConfig": {
            "MemorySwappiness": -1,
            "OomKillDisable": False,
            "PidsLimit": 0,
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "LogConfig": {"Type": "", "Config": {}},
            "NetworkMode": "default",
        },
        "NetworkingConfig": {"EndpointsConfig": {}},
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-i"], {"AttachStdin": True, "OpenStdin": True, "StdinOnce": True}),
        (["-t", "-h", "name", "--domainname", "d"], {"Tty": True, "Hostname": "name", "Domainname": "d"}),
        (["-a", "stdout"], {"AttachStdout": True, "AttachStderr": False, "AttachStdin": False}),
        (["-a", "STDIN"], {"AttachStdout": False, "AttachStdin": True, "StdinOnce": False}),
        (["--entrypoint", "/x"], {"Entrypoint": ["/x"]}),
        (["--entrypoint="], {"Entrypoint": [""]}),
        (
            ["-u", "1:2", "-w", "/w", "--stop-signal", "INT", "--stop-timeout", "0"],
            {"User": "1:2", "WorkingDir": "/w", "StopSignal": "INT", "StopTimeout": 0},
        ),
        (["-l", "a=b", "--label", "c"], {"Labels": {"a": "b", "c": ""}}),
        (["-v", "/data"], {"Volumes": {"/data": {}}}),
        (["--expose", "80", "--expose", "90-91/udp"], {"ExposedPorts": {"80/tcp": {}, "90/udp": {}, "91/udp": {}}}),
        (["--no-healthcheck"], {"Healthcheck": {"Test": ["NONE"]}}),
        (
            ["--health-cmd", "true", "--health-interval", "1s", "--health-retries", "2"],
            {
                "Healthcheck": {
                    "Test": ["CMD-SHELL", "true"],
                    "Interval": 10**9,
                    "Timeout": 0,
                    "StartPeriod": 0,
                    "StartInterval": 0,
                    "Retries": 2,
                }
            },
        ),
    ],
)
def test_options_of_the_process(arguments: list[str], expected: dict[str, Any]) -> None:
    config = build(*arguments)
    assert {name: config[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["-m", "64m", "--memory-swap", "-1", "--memory-reservation", "1m"],
            {"Memory": 64 << 20, "MemorySwap": -1, "MemoryReservation": 1 << 20},
        ),
        (
            ["--cpus", "1.5", "-c", "512", "--cpuset-cpus", "0-1", "--pids-limit", "-1"],
            {"NanoCpus": 1500000000, "CpuShares": 512, "CpusetCpus": "0-1", "PidsLimit": -1},
        ),
        (
            ["--cap-add", "A", "--cap-drop", "ALL", "--privileged", "--read-only", "--rm", "-P"],
            {"CapAdd": ["A"], "CapDrop": ["ALL"], "Privileged": True, "ReadonlyRootfs": True, "AutoRemove": True, "PublishAllPorts": True},
        ),
        (["--init"], {"Init": True}),
        (["--init=false"], {"Init": False}),
        (["--restart", "on-failure:3"], {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}),
        (["--restart", ""], {"RestartPolicy": {"Name": "", "MaximumRetryCount": 0}}),
        (
            ["--ulimit", "nofile=1:2", "--ulimit", "core=0", "--ulimit", "nofile=3"],
            {"Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}, {"Name": "nofile", "Soft": 3, "Hard": 3}]},
        ),
        (["--ulimit", "core=-1"], {"Ulimits": [{"Name": "core", "Soft": -1, "Hard": -1}]}),
        (
            ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=2"],
            {"Sysctls": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "2"}},
        ),
        (["--tmpfs", "/run:rw,size=1m", "--tmpfs", "/t"], {"Tmpfs": {"/run": "rw,size=1m", "/t": ""}}),
        (["-v", "/a:/b:ro", "-v", "name:/c"], {"Binds": ["/a:/b:ro", "name:/c"]}),
        (
            ["--add-host", "a:1.2.3.4", "--add-host", "b=::1", "--add-host", "c:[::2]", "--add-host", "d=host-gateway"],
            {"ExtraHosts": ["a:1.2.3.4", "b:::1", "c:::2", "d:host-gateway"]},
        ),
        (
            ["--device", "/dev/a", "--device", "/dev/a:/dev/b:r", "--device", "/dev/a:rw"],
            {
                "Devices": [
                    {"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rwm"},
                    {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"},
                    {"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rw"},
                ]
            },
        ),
        (["--device-cgroup-rule", "c 1:* rwm"], {"DeviceCgroupRules": ["c 1:* rwm"]}),
        (
            [
                "--device-read-bps",
                "/dev/a:1mb",
                "--device-write-iops",
                "/dev/a:10",
                "--blkio-weight-device",
                "/dev/a:100",
                "--blkio-weight",
                "10",
            ],
            {
                "BlkioDeviceReadBps": [{"Path": "/dev/a", "Rate": 1 << 20}],
                "BlkioDeviceWriteIOps": [{"Path": "/dev/a", "Rate": 10}],
                "BlkioWeightDevice": [{"Path": "/dev/a", "Weight": 100}],
                "BlkioWeight": 10,
            },
        ),
        (["--log-driver", "json-file", "--log-opt", "max-size=1m"], {"LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}}),
        (["--log-driver", "none"], {"LogConfig": {"Type": "none", "Config": {}}}),
        (
            ["--security-opt", "no-new-privileges", "--security-opt", "label:disable", "--security-opt", "seccomp=unconfined"],
            {"SecurityOpt": ["no-new-privileges", "label:disable", "seccomp=unconfined"]},
        ),
        (["--security-opt", "systempaths=unconfined"], {"SecurityOpt": [], "MaskedPaths": [], "ReadonlyPaths": []}),
        (
            ["--storage-opt", "size=1G", "--annotation", "a=b", "--ipc", "host", "--pid", "host", "--uts", "host", "--shm-size", "1m"],
            {
                "StorageOpt": {"size": "1G"},
                "Annotations": {"a": "b"},
                "IpcMode": "host",
                "PidMode": "host",
                "UTSMode": "host",
                "ShmSize": 1 << 20,
            },
        ),
        (
            ["--dns", "1.1.1.1", "--dns-opt", "a", "--dns-search", "b", "--group-add", "audio"],
            {"Dns": ["1.1.1.1"], "DnsOptions": ["a"], "DnsSearch": ["b"], "GroupAdd": ["audio"]},
        ),
        (["--net", "host"], {"NetworkMode": "host"}),
        (
            ["-p", "8080:80", "-p", "127.0.0.1::90/udp", "-p", "[::1]:5-6:7-8"],
            {
                "PortBindings": {
                    "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
                    "90/udp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
                    "7/tcp": [{"HostIp": "::1", "HostPort": "5"}],
                    "8/tcp": [{"HostIp": "::1", "HostPort": "6"}],
                }
            },
        ),
        (
            ["-p", "100-110:80", "-p", "81", "-p", "published=1,target=2,protocol=udp"],
            {
                "PortBindings": {
                    "80/tcp": [{"HostIp": "", "HostPort": "100-110"}],
                    "81/tcp": [{"HostIp": "", "HostPort": ""}],
                    "2/udp": [{"HostIp": "", "HostPort": "1"}],
                }
            },
        ),
    ],
)
def test_options_of_the_host(arguments: list[str], expected: dict[str, Any]) -> None:
    config = host(*arguments)
    assert {name: config[name] for name in expected} == expected


def test_published_ports_are_exposed() -> None:
    assert build("-p", "80")["ExposedPorts"] == {"80/tcp": {}}


def test_a_relative_bind_starts_at_the_current_directory() -> None:
    assert host("-v", "./x:/y")["Binds"] == [f"{Path.cwd()}/x:/y"]


@pytest.mark.parametrize(
    ("arguments", "mode", "endpoints"),
    [
        (
            ["--network", "net1", "--network-alias", "a", "--ip", "10.0.0.2"],
            "net1",
            {"net1": {"Aliases": ["a"], "IPAMConfig": {"IPv4Address": "10.0.0.2"}}},
        ),
        (
            [
                "--network",
                "name=net1,alias=a,alias=b,ip6=::2,mac-address=02-42-00-00-00-09,gw-priority=3,driver-opt=x=y,link-local-ip=fe80::1",
            ],
            "net1",
            {
                "net1": {
                    "Aliases": ["a", "b"],
                    "DriverOpts": {"x": "y"},
                    "GwPriority": 3,
                    "MacAddress": "02-42-00-00-00-09",
                    "IPAMConfig": {"IPv6Address": "::2", "LinkLocalIPs": ["fe80::1"]},
                }
            },
        ),
        (["--network", "a", "--network", "b", "--link", "c:d"], "a", {"a": {"Links": ["c:d"]}, "b": {}}),
        (["--mac-address", "02:00:00:00:00:01"], "default", {"default": {"MacAddress": "02:00:00:00:00:01"}}),
        (
            ["--network", "a", "--link-local-ip", "fe80::1", "--ip6", "::3"],
            "a",
            {"a": {"IPAMConfig": {"IPv6Address": "::3", "LinkLocalIPs": ["fe80::1"]}}},
        ),
    ],
)
def test_networks_with_wishes(arguments: list[str], mode: str, endpoints: dict[str, Any]) -> None:
    config = build(*arguments)
    assert config["HostConfig"]["NetworkMode"] == mode
    assert config["NetworkingConfig"]["EndpointsConfig"] == endpoints


def test_the_environment_comes_from_files_options_and_the_caller(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes(b"\xef\xbb\xbfA=1\r\n# note\n\n  B= two \nC\nNONE\n")
    config = build("--env-file", str(file), "-e", "D=4", "-e", "C", "-e", "E", environment={"C": "3"})
    assert config["Env"] == ["A=1", "B= two ", "C=3", "D=4", "C=3", "E"]


def test_labels_come_from_files_too(tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text("a=1\nb=2\nempty\n")
    assert build("--label-file", str(file), "-l", "b=3")["Labels"] == {"a": "1", "b": "3"}


def test_a_seccomp_profile_is_sent_by_content(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text('{ "defaultAction" : "X" }\n')
    assert host("--security-opt", f"seccomp={profile}")["SecurityOpt"] == ['seccomp={"defaultAction":"X"}']
    profile.write_text("{")
    with pytest.raises(ValueError, match="compacting json"):
        host("--security-opt", f"seccomp={profile}")
    with pytest.raises(ValueError, match="no such file or directory"):
        host("--security-opt", "seccomp=/nosuch")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory-swappiness", "101"], "invalid value: 101. Valid memory swappiness range is 0-100"),
        (["--rm", "--restart", "always"], "conflicting options: cannot specify both --restart and --rm"),
        (["--restart", ":3"], "no policy provided before colon"),
        (["--restart", "always:x"], "maximum retry count must be an integer"),
        (["--no-healthcheck", "--health-cmd", "x"], "--no-healthcheck conflicts"),
        (["--health-interval", "-1s"], "--health-interval cannot be negative"),
        (["--log-driver", "none", "--log-opt", "a=b"], "invalid logging opts for driver none"),
        (["--storage-opt", "x"], "invalid storage option"),
        (["--security-opt", "x"], 'invalid --security-opt: "x"'),
        (["--env-file", "/nosuch"], "--env-file: open /nosuch: no such file or directory"),
        (["-v", ""], "invalid empty volume spec"),
        (["-v", "a::b"], "invalid spec: a::b: empty section between colons"),
        (["-v", "a:b:c:d"], "too many colons"),
        (["--device", "a:b:c:d"], "bad format for path"),
        (["--device", "/a:/b:x"], "bad mode specified: x"),
        (["--device", "/a:b"], "b is not an absolute path"),
        (["-p", "x:y"], "invalid containerPort: y"),
        (["-p", "x:80"], "invalid hostPort: x"),
        (["-p", "1-2:3-5"], "invalid ranges specified"),
        (["-p", "80/icmp"], "invalid proto: icmp"),
        (["-p", "1.2.3:1:2"], "invalid IP address: 1.2.3"),
        (["-p", "::1:1:2"], "needs brackets"),
        (["-p", "80:"], "no port specified"),
        (["-p", "=1"], "invalid publish opts format"),
        (["--expose", "9-1"], "invalid range format for --expose"),
        (["--expose", "x"], "invalid range format for --expose"),
        (["--network", "a", "--network", "a"], "specified multiple times"),
        (["--network", "a", "--network", "host"], "cannot attach both user-defined"),
        (["--network", "host", "--network-alias", "x"], "only supported for user-defined networks"),
        (["--network", "name=a,alias=x", "--network-alias", "y"], "cannot specify both --network-alias"),
        (["--network", "name=a,ip=1.2.3.4", "--ip", "1.2.3.4"], "cannot specify both --ip and per-network IPv4 address"),
        (["--network", "name=a,link-local-ip=x", "--link-local-ip", "y"], "cannot specify both --link-local-ip"),
    ],
)
def test_contradictions_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        build(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-a", "x"], '"x" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR'),
        (["-e", "=x"], '"=x" for "-e, --env" flag: invalid environment variable: =x'),
        (["--add-host", "x"], '"x" for "--add-host" flag: bad format for add-host: "x"'),
        (["--add-host", "x:y"], 'invalid IP address in add-host: "y"'),
        (["--sysctl", "a=b"], "sysctl 'a=b' is not allowed"),
        (["--ulimit", "x"], "invalid ulimit argument: x"),
        (["--ulimit", "x=1"], "invalid ulimit type: x"),
        (["--ulimit", "core=x"], 'parsing "x": invalid syntax'),
        (["--ulimit", "core=1:2:3"], "too many limit value arguments"),
        (["--ulimit", "core=3:2"], "less than or equal to hard limit: 3 > 2"),
        (["--ulimit", "core=-1:2"], "soft: -1 (unlimited), hard: 2"),
        (["--device-cgroup-rule", "x"], "invalid device cgroup format 'x'"),
        (["--device-cgroup-rule", "c 1:x r"], "invalid device cgroup format"),
        (["--device-read-bps", "x"], "bad format: x"),
        (["--device-read-bps", "/x:1"], "bad format for device path: /x:1"),
        (["--device-read-bps", "/dev/x:y"], "invalid rate for device"),
        (["--device-read-iops", "/dev/x:1k"], "invalid rate for device"),
        (["--blkio-weight-device", "/dev/x:5"], "invalid weight for device"),
        (["--mount", "type=foo"], "target is required"),
        (["--network", "alias=a"], "network name/id is not specified"),
        (["--network", "name=a,foo=b"], "invalid field key foo"),
        (["--network", "name=a,b"], "invalid field b"),
        (["--network", "name=a,gw-priority=x"], "invalid gw-priority (x)"),
        (["--network", "name=a,driver-opt=x"], "invalid key value pair"),
    ],
)
def test_values_that_the_option_cannot_take_are_usage_errors(arguments: list[str], message: str) -> None:
    if arguments[0] == "--network":
        arguments = [*arguments, "--network-alias", "z"]
    with pytest.raises(UsageError) as caught:
        build(*arguments)
    assert message in caught.value.message
    assert caught.value.message.startswith(f'invalid argument "{arguments[1]}" for "')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"=x\n", "no variable name on line '=x'"),
        (b"a b=c\n", "variable 'a b' contains whitespaces"),
        (b"\xff=c\n", "invalid utf8 bytes at line 1"),
    ],
)
def test_bad_environment_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "env"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        build("--env-file", str(file))


@pytest.mark.parametrize(("label", "message"), [("=x", "empty name"), ("a b=c", "contains whitespaces")])
def test_bad_labels_are_refused(label: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("-l", label)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=bind,src=/a,dst=/b,readonly", {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True}),
        (
            "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770",
            {"Type": "tmpfs", "Source": "", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}},
        ),
        ("source=v,destination=/d,ro=false", {"Type": "volume", "Source": "v", "Target": "/d", "ReadOnly": False}),
        (
            "type=bind,src=/a,dst=/b,bind-propagation=rslave,bind-recursive=disabled,bind-create-src",
            {
                "Type": "bind",
                "Source": "/a",
                "Target": "/b",
                "BindOptions": {"Propagation": "rslave", "NonRecursive": True, "CreateMountpoint": True},
            },
        ),
        (
            "type=bind,src=/a,dst=/b,bind-recursive=enabled,bind-nonrecursive,consistency=Cached",
            {"Type": "bind", "Source": "/a", "Target": "/b", "BindOptions": {"NonRecursive": True}, "Consistency": "cached"},
        ),
        (
            'type=volume,src=v,dst=/d,volume-nocopy=1,volume-label=a=b,volume-driver=local,"volume-opt=o=x,y",volume-subpath=s',
            {
                "Type": "volume",
                "Source": "v",
                "Target": "/d",
                "VolumeOptions": {
                    "NoCopy": True,
                    "Labels": {"a": "b"},
                    "DriverConfig": {"Name": "local", "Options": {"o": "x,y"}},
                    "Subpath": "s",
                },
            },
        ),
        ("idmap,type=bind,src=/a,dst=/b", {"Type": "bind", "Source": "/a", "Target": "/b", "BindOptions": {"IdMap": "owner"}}),
        (
            "src=v,dst=/d,idmap=uids=0-1-2#3-4-5;gids=6-7-8",
            {"Type": "volume", "Source": "v", "Target": "/d", "VolumeOptions": {"IdMap": "uids=0-1-2#3-4-5;gids=6-7-8"}},
        ),
        ("type=image,src=i,dst=/d,image-subpath=p", {"Type": "image", "Source": "i", "Target": "/d", "ImageOptions": {"Subpath": "p"}}),
    ],
)
def test_mounts(text: str, expected: dict[str, Any]) -> None:
    assert parse_mount(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "value is empty"),
        ("type=bind,src=/a", "target is required"),
        ("type=,dst=/a", "invalid value for 'type': value is empty"),
        ("type=bind,foo", "invalid field 'foo' must be a key=value pair"),
        ("type=bind,foo=1,dst=/a", "unknown option 'foo' in 'foo=1'"),
        ("type=bind, dst=/a", "option should not have whitespace"),
        ("type=bind,dst= /a", "value should not have whitespace"),
        ("type=bind,dst=/a,ro=x", "invalid boolean value"),
        ("type=bind,dst=/a,bind-recursive=x", "must be"),
        ("type=bind,dst=/a,bind-x=1", "unknown option 'bind-x'"),
        ("type=volume,dst=/a,volume-x=1", "unknown option 'volume-x'"),
        ("type=tmpfs,dst=/a,tmpfs-x=1", "unknown option 'tmpfs-x'"),
        ("type=tmpfs,dst=/a,tmpfs-size=x", "invalid value for tmpfs-size: x"),
        ("type=tmpfs,dst=/a,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
        ("type=tmpfs,dst=/a,idmap", "cannot use 'idmap' with mount type 'tmpfs'"),
        ("type=bind,dst=/a,idmap=", "invalid value for 'idmap': value is empty"),
        ("type=tmpfs,dst=/a,bind-propagation=shared", r"cannot mix 'bind-\*' options with mount type 'tmpfs'"),
        ("type=bind,dst=/a,bind-recursive=writable", "requires 'readonly'"),
        ("type=bind,dst=/a,bind-recursive=readonly", "requires 'readonly'"),
        ("type=bind,dst=/a,ro,bind-recursive=readonly", "requires 'bind-propagation=rprivate'"),
    ],
)
def test_mounts_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_mount(text)


@pytest.mark.parametrize(
    ("text", "fields"), [("a,b", ["a", "b"]), ('"a,b",c', ["a,b", "c"]), ('"a""b"', ['a"b']), ("a,", ["a", ""]), ("a", ["a"])]
)
def test_fields_between_commas(text: str, fields: list[str]) -> None:
    assert split_csv(text) == fields


@pytest.mark.parametrize("text", ['"a', 'a"b', '"a"b'])
def test_stray_quotes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="parse error"):
        split_csv(text)
