"""What the engine and its workers tell each other: the orders, and the lines of the reports. Both ends use these types.

An order is one JSON object, the worker's only argument. A report is lines of JSON: some jobs have lines to say on the way (`MemberLine`,
`StatLine`, `EnteredLine`), any may begin with a `MissingLine`, and the last line is a `DoneLine` or a `Failure`. Names from an archive or a
container are decoded by `os.fsdecode`, so any bytes survive the way. Every order has:

  job         which of the program's jobs
  parent_pid  the engine's process id; a worker whose parent is another process by now ends without a word

Types and nothing else: no program loads this module, since a worker's start is part of every load.
"""

from __future__ import annotations

from typing import Literal, TypedDict

# invalid    the archive or the request is wrong
# limit      the archive has more of something than is allowed, or needs more memory
# not-found  the path that the client named does not exist
# gone       the container has ended before its root was entered
# system     the kernel or the disk said no
# bug        anything else; the text is a traceback, for the log only
FailureKind = Literal["invalid", "limit", "not-found", "gone", "busy", "system", "bug"]


class Failure(TypedDict):
    """The last line of a job that failed. `error` is for the client, and may quote names that are not printable."""

    error: str
    kind: FailureKind


# Orders to `program.layers`.


class _Confined(TypedDict):
    """An archive on stdin goes into the directory `root`, which the worker is shut into.

    The limits are on the bytes of its files, and about as many for the uncompressed archive; on the number of its entries; and
    on what is behind its end.
    """

    parent_pid: int
    root: str
    limit_bytes: int
    limit_entries: int
    trailing_bytes: int


class SplitOrder(_Confined):
    """Take an image archive apart into files; every member is a `MemberLine`."""

    job: Literal["split"]


class UnpackOrder(_Confined):
    """Unpack a layer. `compression` is a name that `streams.sniff` gives; `hash` asks for the diff id."""

    job: Literal["unpack"]
    compression: str
    hash: bool


class IngestOrder(_Confined):
    """Unpack a layer, and write the blob that is to be kept to the descriptor `keep_fd`; `as_it_came` is as in `IndexOrder`."""

    job: Literal["ingest"]
    keep_fd: int
    as_it_came: bool


class IndexOrder(_Confined):
    """Write an index over a layer's uncompressed archive to the empty file `index_fd`. `root` is an empty directory.

    `archive_fd` takes the uncompressed archive; None: it is the file on stdin, which is not compressed, and whose diff id is known.
    `keep_fd` takes the blob as it came; None: whoever asks has it. A blob that comes uncompressed is itself the archive, and is written
    once: to `archive_fd`. So is one whose compression the registry formats have no name for, decompressed, unless the blob is wanted
    `as_it_came` even so.
    """

    job: Literal["index"]
    index_fd: int
    archive_fd: int | None
    keep_fd: int | None
    as_it_came: bool


LayersOrder = SplitOrder | UnpackOrder | IngestOrder | IndexOrder


# Orders to `program.rootfs`.


class OverlayMount(TypedDict):
    """The image's layers, topmost first, each a host directory or the descriptor of a mount; and the container's own directories."""

    lower: list[str | int]
    upper: str
    work: str


class IdRanges(TypedDict):
    """As `linux.idmap` takes them. None at all: the source's owner is seen as the container's user."""

    uids: list[list[int]]
    gids: list[list[int]]


class BindMount(TypedDict):
    """The host path `source`, or the detached mount of that descriptor, to be seen at `destination`.

    `asked`: by the client, who may have wanted it read-only. `id_map`: which owners of files are seen there.
    """

    source: str | int
    destination: str
    read_only: bool
    recursive: bool
    asked: bool
    id_map: IdRanges | None


class RootView(TypedDict):
    """What the container's root is made of: the root of the running process behind `pidfd`, or if there is none the overlay.

    `stage` is a host directory to mount at; `read_only` is for the root, not for the binds. `user` is the container's.
    """

    pidfd: int | None
    overlay: OverlayMount
    stage: str
    binds: list[BindMount]
    read_only: bool
    user: str


class InsideOrder(TypedDict):
    """An order that is carried out inside the container's root."""

    parent_pid: int
    view: RootView


class StatOrder(InsideOrder):
    """Look at the container's `path`."""

    job: Literal["stat"]
    path: str


class PackOrder(InsideOrder):
    """Write an archive of the container's `path` to the descriptor `data_fd`; before it comes a `StatLine`."""

    job: Literal["pack"]
    path: str
    data_fd: int


class ExportOrder(InsideOrder):
    """Write an archive of the container's whole root to the descriptor `data_fd`; before it comes an `EnteredLine`."""

    job: Literal["export"]
    data_fd: int


class PlaceOrder(InsideOrder):
    """Place the archive on stdin in the container's directory `path`; before it is read comes an `EnteredLine`.

    `user` ("" for none) is the owner of all placed files, in place of the archive's owners; `no_overwrite` refuses to put a directory in
    the place of another kind of file, or the other way round; `read_only_root` says that the container's root is read-only.
    """

    job: Literal["place"]
    path: str
    user: str
    no_overwrite: bool
    read_only_root: bool


class PopulateOrder(InsideOrder):
    """Copy what the root has at each path into an empty directory: pairs of the path and a descriptor of the directory's mount."""

    job: Literal["populate"]
    targets: list[tuple[str, int]]


class ChangesOrder(TypedDict):
    """Compare a container's `upper` directory with the layers of its image, which are as in an `OverlayMount`."""

    job: Literal["changes"]
    parent_pid: int
    upper: str
    lower: list[str | int]


class ChangesetOrder(TypedDict):
    """Write what a container has changed as a layer: its archive to the empty file `archive_fd`, and an index over that to `index_fd`.

    `index_fd` is None if no index is wanted. The rest is as in a `ChangesOrder`.
    """

    job: Literal["changeset"]
    parent_pid: int
    upper: str
    lower: list[str | int]
    archive_fd: int
    index_fd: int | None


class AttachOrder(TypedDict):
    """Attach the detached mount `mount_fd` at `destination` in the container of the process behind `pidfd`, whose user is `user`."""

    job: Literal["attach"]
    parent_pid: int
    pidfd: int
    mount_fd: int
    destination: str
    id_map: IdRanges | None
    user: str


class DetachOrder(TypedDict):
    """Take away what is mounted at `destination`, if it is what has this device and inode number; `lazily` also if it is in use."""

    job: Literal["detach"]
    parent_pid: int
    pidfd: int
    destination: str
    identity: list[int] | None
    lazily: bool


MountingOrder = AttachOrder | DetachOrder
RootfsOrder = StatOrder | PackOrder | ExportOrder | PlaceOrder | PopulateOrder | ChangesOrder | ChangesetOrder


# Orders to `program.volumes`.


class VolumeExportOrder(TypedDict):
    """Write an archive of the directory `path` to the descriptor `data_fd`; before it comes an `EnteredLine`."""

    job: Literal["export-volume"]
    parent_pid: int
    path: str
    data_fd: int
    compression: Literal["", "gzip", "zstd"]


class VolumeImportOrder(TypedDict):
    """Unpack the archive on stdin in the empty directory whose mount is `target_fd`; before it is read comes an `EnteredLine`.

    `stage` is a host directory to mount at.
    """

    job: Literal["import-volume"]
    parent_pid: int
    target_fd: int
    stage: str


class VolumeCloneOrder(TypedDict):
    """Copy the directory `path` into the empty directory whose mount is `target_fd`."""

    job: Literal["clone-volume"]
    parent_pid: int
    path: str
    target_fd: int


VolumesOrder = VolumeExportOrder | VolumeImportOrder | VolumeCloneOrder
Order = LayersOrder | RootfsOrder | MountingOrder | VolumesOrder


# Lines on the way.


class FileMember(TypedDict):
    """A file of an image archive, whose bytes are in the numbered `file` of the order's root.

    `digest` is by the algorithm that the name promises, else sha256; `compression` is what the first bytes say; `archive` whether it may be
    a layer.
    """

    name: str
    type: Literal["file"]
    file: str
    size: int
    digest: str
    compression: str
    archive: bool


class LinkMember(TypedDict):
    """A link in an image archive. `target` is as the archive has it."""

    name: str
    type: Literal["link", "symlink"]
    target: str


class MissingLine(TypedDict):
    """Before all other lines, where the kernel lacks namespaces that a worker should have had. For the log."""

    missing_namespaces: list[str]


class MemberLine(TypedDict):
    """A member of an image archive, whole."""

    member: FileMember | LinkMember


class Stat(TypedDict):
    """What the API tells of a path. `mode` is numbered as Go's io/fs.FileMode; `target` is where a symlink leads in the end, else ""."""

    name: str
    size: int
    mode: int
    mtime_ns: int
    target: str


class StatLine(TypedDict):
    """The path that is to be packed is there."""

    stat: Stat


class EnteredLine(TypedDict):
    """The container's root has been entered: the container may end now."""

    entered: Literal[True]


# Results.


class Nothing(TypedDict):
    """The result of jobs whose result is elsewhere: in the lines before (split), the archive (pack, export), the container (place)."""


class UnpackResult(TypedDict):
    """A layer as unpacked: its `size` as Docker counts it, how many `entries`, and its `opaque` directories, which the engine has to mark.

    `diff_id` is "" if the order did not ask for it.
    """

    size: int
    entries: int
    opaque: list[str]
    diff_id: str


class IngestResult(UnpackResult):
    """As `UnpackResult`; `digest`, `blob_size` and `compression` are those of the blob that was kept."""

    digest: str
    blob_size: int
    compression: str


class IndexResult(TypedDict):
    """A layer as indexed: its `size` as Docker counts it, how many `entries`, and the archive's digest and size.

    `unindexable` says what about the layer the format of indexes does not have; "" if there is an index. `diff_id` is "" where it was
    known. `digest`, `blob_size` and `compression` are the blob's.
    """

    size: int
    entries: int
    unindexable: str
    diff_id: str
    archive_size: int
    digest: str
    blob_size: int
    compression: str


class ChangesResult(TypedDict):
    """Pairs of a kind (`changes.MODIFIED`, `ADDED`, `DELETED`) and a path, in docker's order."""

    changes: list[tuple[int, str]]


class ChangesetResult(TypedDict):
    """A layer as written: its `size` as Docker counts it, how many `entries`, and the archive's digest and size.

    `unindexable` is as in an `IndexResult`; "" also if no index was wanted.
    """

    size: int
    entries: int
    unindexable: str
    diff_id: str
    archive_size: int


class PopulateResult(TypedDict):
    """What is at each path of the order, in its order."""

    found: list[Literal["directory", "file", "nothing"]]


class DetachResult(TypedDict):
    """Whether anything was mounted there."""

    found: bool


Result = Nothing | UnpackResult | IngestResult | IndexResult | Stat | ChangesResult | ChangesetResult | PopulateResult | DetachResult


class DoneLine(TypedDict):
    """The last line of a job that succeeded."""

    done: Result


Line = MissingLine | MemberLine | StatLine | EnteredLine | DoneLine | Failure
