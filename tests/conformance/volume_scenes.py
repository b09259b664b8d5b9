"""What is asked of both engines about volumes: docker commands, as a shell would read them; and the image that fills them."""

from __future__ import annotations

from conformance.network_scenes import Request, Step
from support import images

MOUNTS = "container inspect -f '{{json .Mounts}} {{json .HostConfig.Binds}} {{json .HostConfig.Mounts}} {{json .Config.Volumes}}' "
LOOK = "run --rm -v {}:/look busybox sh -c 'find /look | sort | xargs stat -c \"%n %f %u:%g %h %Y\"'"


def filled_image() -> images.Image:
    """An image with two volumes of its own, and things to copy of every kind."""
    tree = images.pack(
        [
            images.directory("data", 0o1771, uid=7, gid=8),
            images.directory("data/sub", 0o700, uid=1),
            images.file("data/sub/deep", "deep", 0o4755, uid=3, gid=4),
            images.file("data/file", "file", 0o640, uid=5, gid=6),
            images.hard_link("data/other-name", "data/file", 0o640),
            images.symlink("data/way-out", "/etc/passwd"),
            images.symlink("data/dangling", "nowhere"),
            images.file("data/.hidden", ""),
            images.directory("empty", 0o711, uid=9, gid=9),
            images.file("plain", "a file, where a volume may be wanted"),
            images.symlink("link", "data"),
        ]
    )
    base = images.busybox()
    return images.Image(("filled:latest",), (*base.layers, tree), {**base.config, "Volumes": {"/data": {}, "/empty": {}}})


RUN_FILLED = "run --rm {} filled sh -c 'cd {} && find . | sort | xargs stat -c \"%n %f %u:%g %h %Y\"'"
BOX = "run -d --name {} {} busybox sleep 300"

FILLING: list[list[Step]] = [
    [RUN_FILLED.format("", "/data"), RUN_FILLED.format("", "/empty"), "volume ls -q"],
    [RUN_FILLED.format("-v vol:/data", "/data"), LOOK.format("vol"), RUN_FILLED.format("-v vol:/data", "/data")],
    [RUN_FILLED.format("-v vol:/data:nocopy", "/data"), LOOK.format("vol")],
    [RUN_FILLED.format("--mount type=volume,src=vol,dst=/data,volume-nocopy", "/data"), LOOK.format("vol")],
    [RUN_FILLED.format("-v vol:/data:ro", "/data"), LOOK.format("vol")],
    [RUN_FILLED.format("-v vol:/empty", "/empty"), RUN_FILLED.format("-v vol:/data", "/data")],
    [RUN_FILLED.format("-v vol:/link", "/data"), LOOK.format("vol")],
    [RUN_FILLED.format("-v vol:/data/sub", "/data"), LOOK.format("vol")],
    [RUN_FILLED.format("-v vol:/nosuch/place", "/nosuch"), LOOK.format("vol")],
    [RUN_FILLED.format("-v vol:/plain", "/"), "volume inspect -f '{{.Name}} {{json .Labels}}' vol"],
    ["run --rm -v vol:/x busybox touch /x/first", RUN_FILLED.format("-v vol:/data", "/data").replace("%Y", "-")],
    ["run --rm -v vol:/data filled rm -rf /data/file /data/sub", RUN_FILLED.format("-v vol:/data", "/data").replace("%Y", "-")],
    ["create --name box -v vol:/data filled", LOOK.format("vol"), "rm box", "volume ls -q"],
    [
        "volume create -o type=tmpfs -o device=tmpfs -o o=size=1m,uid=3 vol",
        RUN_FILLED.format("-v vol:/data", "/data").replace("%Y", "-"),
        LOOK.format("vol").replace("%Y", "-"),
    ],
]

SHARING: list[list[Step]] = [
    [
        BOX.format("one", "-v vol:/a -v /anonymous -v other:/b:ro"),
        BOX.format("two", "--volumes-from one"),
        BOX.format("three", "--volumes-from one:ro"),
        BOX.format("four", "--volumes-from three -v mine:/a"),
        BOX.format("five", "--volumes-from one:rw --volumes-from four"),
        *(MOUNTS + name for name in ("one", "two", "three", "four", "five")),
        "exec one sh -c 'echo hello > /a/file; echo x > /anonymous/file; touch /b/file'",
        *(f"exec {name} sh -c 'cat /a/file; cat /anonymous/file; touch /a/from-{name}'" for name in ("two", "three", "four", "five")),
        "exec one ls /a",
        "rm -f -v one",
        "volume ls -q",
        "rm -f -v two three",
        "volume ls -q",
        "rm -f -v four five",
        "volume ls -q",
    ],
    [
        "create --name box --volumes-from nosuch busybox",
        "create --name box --volumes-from : busybox",
        "create --name box --volumes-from box2:nonsense busybox",
        "create --name box --volumes-from '' busybox",
    ],
    ["run --name box -v /anonymous -v vol:/x --rm busybox true", "volume ls -q"],
    ["run --name box -v /anonymous -v vol:/x busybox true", "rm box", "volume ls -q"],
    ["run --name box -v /anonymous -v vol:/x busybox true", "rm -v box", "volume ls -q"],
    ["run --name box --mount dst=/anonymous busybox true", MOUNTS + "box", "rm -v box", "volume ls -q"],
    [
        "volume create vol",
        "run --name box -v vol:/x busybox true",
        "volume rm vol",
        "volume rm -f vol",
        "volume prune -f",
        "volume ls -q",
        "ps -a --filter volume=vol --format '{{.Names}} {{.Mounts}}'",
        "ps -a --filter volume=/x --format '{{.Names}}'",
        "ps -a --filter volume=nosuch --format '{{.Names}}'",
        "rm box",
        "volume rm vol",
        "volume rm vol",
        "volume rm -f vol",
        "volume inspect vol",
    ],
    [
        BOX.format("box", "-v vol:/x"),
        "exec box touch /x/file",
        "cp box:/x/file - ",
        "stop -t 0 box",
        "start box",
        "exec box ls /x",
        "restart -t 0 box",
        "exec box ls /x",
        "diff box",
    ],
]

WRONG = [
    "-v vol:/x -v vol2:/x",
    "-v vol:/x --mount type=volume,src=vol2,dst=/x",
    "-v vol:/x -v vol:/x/",
    "-v vol:/x --tmpfs /x",
    "-v /x -v vol:/x",
    "-v vol",
    "-v vol:",
    "-v :/x",
    "-v vol:x",
    "-v vol:/",
    "-v vol:/x:nonsense",
    "-v vol:/x:ro,rw",
    "-v vol:/x:z",
    "-v vol:/x:rshared",
    "-v vol:/x:ro:rw",
    "-v v:/x",
    "-v a/b:/x",
    "-v -a:/x",
    "-v 'vol:/x:nocopy,nocopy'",
    "--volume-driver local -v vol:/x",
    "--mount type=volume",
    "--mount type=volume,src=vol,dst=",
    "--mount type=volume,src=vol,dst=relative",
    "--mount type=volume,src=a/b,dst=/x",
    "--mount type=volume,src=v,dst=/x",
    "--mount type=volume,src=vol,dst=/x,volume-opt=nosuch=1",
    "--mount type=volume,src=vol,dst=/x,volume-opt=type=tmpfs",
    "--mount type=volume,src=vol,dst=/x,volume-label=a=b,volume-label=c",
    "--mount type=volume,src=vol,dst=/x,bind-propagation=shared",
    "--mount type=volume,src=vol,dst=/x,readonly",
    "--mount type=volume,src=vol,dst=/x,consistency=cached",
    "--mount type=volume,src=vol,dst=/x,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=64k",
    "--mount type=volume,dst=/x,volume-nocopy=false",
]

TWICE = WRONG[:3]

DRIVERS: list[list[Step]] = [
    ["volume create -o type=tmpfs -o device=tmpfs -o o=size=64k,mode=700 vol", "run --rm -v vol:/x busybox sh -c 'df -k /x | tail -n1'"],
    [
        "volume create -o type=none -o device=/nosuch/place -o o=bind vol",
        "run --rm --name box -v vol:/x busybox true",
        "ps -aq",
        "volume rm vol",
    ],
    ["volume create -o type=none -o device=/etc/hostname -o o=bind vol", "run --rm --name box -v vol:/x busybox true"],
    ["volume create -o type=none -o device=/usr/share -o o=bind,ro vol", "run --rm -v vol:/x busybox touch /x/y"],
    ["volume create -o type=bind -o device=/usr/share vol", "run --rm -v vol:/x busybox true"],
    ["volume create -o type=nosuch -o device=x vol", "run --rm --name box -v vol:/x busybox true"],
    ["volume create -o type=ext4 -o device=/dev/nosuch vol", "run --rm --name box -v vol:/x busybox true"],
    ["volume create -o type=ext4 -o device=/etc/passwd vol", "run --rm --name box -v vol:/x busybox true"],
    ["volume create -o type=tmpfs -o device=tmpfs -o o=nonsense=1 vol", "run --rm --name box -v vol:/x busybox true"],
    ["volume create -o type=tmpfs -o device=tmpfs -o o=noexec,nosuid,ro vol", "run --rm -v vol:/x busybox sh -c 'grep /x /proc/mounts'"],
    ["volume create -o type=nfs -o o=addr=127.0.0.1 -o device=:/nosuch vol", "run --rm --name box -v vol:/x busybox true"],
    ["volume create -o type=nfs -o o=addr=no.such.host.invalid -o device=:/nosuch vol", "run --rm --name box -v vol:/x busybox true"],
    ["volume create -o type=cifs -o o=addr=127.0.0.1,password=secret -o device=//x/y vol", "run --rm --name box -v vol:/x busybox true"],
    ["volume create -o size=10m vol", "volume create -o size=x vol", "volume create -o size=0 vol"],
    ["volume create vol", "volume create vol", "volume create -d nosuch vol", "volume create -o type=tmpfs -o device=tmpfs vol"],
    ["volume create --label a=b vol", "volume create --label c=d vol", "volume inspect -f '{{json .Labels}} {{json .Options}}' vol"],
]

LISTS: list[list[Step]] = [
    [
        "volume create --label a=b --label c vol1",
        "volume create --label a=x vol2",
        "volume create other",
        BOX.format("box", "-v vol1:/x -v /y"),
        *(
            f"volume ls --format '{{{{.Name}}}}' {filters}"
            for filters in (
                "-f name=vol",
                "-f name=vol1 -f name=other",
                "-f name=^vol",
                "-f name=ol2$",
                "-f label=a",
                "-f label=a=b",
                "-f label=a -f label=c",
                "-f label=nosuch",
                "-f driver=local -f name=vol",
                "-f driver=nosuch",
                "-f dangling=true",
                "-f dangling=1",
                "-f dangling=0",
                "-f dangling=false -f name=vol",
                "-f dangling=x",
                "-f dangling=true -f dangling=false",
                "-f nosuch=x",
                "-f name=[",
            )
        ),
    ],
]


def _prune(version: str, filters: str = "") -> Request:
    return Request("POST", f"/{version}/volumes/prune?filters={filters}")


PRUNES: list[list[Step]] = [
    [
        "volume create --label a=b vol1",
        "volume create --label a=x vol2",
        "volume create -o type=tmpfs -o device=tmpfs vol3",
        "volume create used",
        BOX.format("box", "-v used:/x -v /y"),
        _prune("v1.41", "%7B%22label%22%3A%5B%22a%3Db%22%5D%7D"),
        "volume ls -q -f name=vol",
        _prune("v1.41", "%7B%22label!%22%3A%5B%22a%22%5D%7D"),
        "volume ls -q -f name=vol",
        _prune("v1.41", "%7B%22until%22%3A%5B%221h%22%5D%7D"),
        _prune("v1.41", "nonsense"),
        _prune("v1.41"),
        "volume ls -q -f name=vol",
        "volume ls -q -f name=used",
    ],
]
REQUESTS: list[Step] = [
    Request("POST", "/v1.41/volumes/create", {}),
    Request("POST", "/v1.41/volumes/create", {"Name": 5}),
    Request("POST", "/v1.41/volumes/create", []),
    Request("POST", "/v1.41/volumes/create", {"Name": "vol", "Driver": "", "DriverOpts": {}, "Labels": {}}),
    Request("POST", "/v1.41/volumes/create", {"Name": "vol", "Labels": {"": "x"}}),
    Request("POST", "/v1.41/volumes/create", {"Name": "vol/x"}),
    Request("POST", "/v1.41/volumes/create", {"Name": ".."}),
    Request("POST", "/v1.41/volumes/create", {"Name": "v" * 255}),
    Request("GET", "/v1.41/volumes/nosuch"),
    Request("GET", "/v1.41/volumes/no/such"),
    Request("DELETE", "/v1.41/volumes/no/such"),
    Request("GET", "/v1.41/volumes?filters=nonsense"),
    Request("DELETE", "/v1.41/volumes/nosuch"),
    Request("DELETE", "/v1.41/volumes/nosuch?force=1"),
    Request("DELETE", "/v1.41/volumes/vol?force=nonsense"),
    Request("GET", "/v1.41/volumes"),
]
COPIES: list[list[Step]] = [
    [
        f"{verb} --name box -v vol:/data -v vol2:/deep/er:ro filled{command}",
        "cp /etc/hostname box:/data/new",
        "cp /etc/hostname box:/deep/er/new",
        "cp /etc/hostname box:/deep/er",
        "cp box:/data/file -",
        "cp box:/data/nosuch -",
        RUN_FILLED.format("-v vol:/data", "/data").replace("%Y", "-"),
    ]
    for verb, command in (("run -d", " sleep 300"), ("create", ""))
]
EVENTS: list[Step] = [
    "volume create --label a=b -o type=tmpfs -o device=tmpfs vol",
    "run --name box -v vol:/x:ro -v named:/y -v /z busybox true",
    "start -a box",
    "rm -v box",
    "volume rm vol",
    "volume rm -f named",
    "volume rm -f nosuch",
    Request("POST", "/v1.41/volumes/prune"),
]
