"""The metadata of a read-only EROFS file system whose files' data lies elsewhere: in a tar archive, its second device.

Pure: a tree of `Inode` becomes bytes. The file that they are written to is the first device, `HEAD_BYTES` of superblock and device table,
then data of files that could not be pointed at in the archive, if there is any, then the metadata: inodes with what belongs to them in one
run, and after them the directories that are too large to stand beside their inode.

All numbers are little-endian. Blocks have 512 bytes, since that is how an archive aligns its files. An inode's number counts slots
of 32 bytes from the metadata's beginning; the root, of which the superblock has 16 bits, comes first, in the second slot: readers of
directories take a number of zero for an entry that was removed.

kernel: Documentation/filesystems/erofs.rst; fs/erofs/erofs_fs.h has the structures, under the names that are used here.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable, Sequence
from typing import Final

BLOCK_BITS: Final = 9
BLOCK_BYTES: Final = 1 << BLOCK_BITS
HEAD_BYTES: Final = 4 * BLOCK_BYTES
INDEX_DEVICE, ARCHIVE_DEVICE = 0, 1
# What a file that consists of many pieces may need in the index; each chunk takes eight bytes.
MAX_CHUNKS: Final = 1 << 20
MAX_NAME_BYTES: Final = 255
# erofs_inode_extended, i_xattr_icount: 16 bits, in units of four bytes behind the first; erofs_xattr_entry, e_value_size: 16 bits.
MAX_XATTRS_BYTES: Final = 12 + 4 * 0xFFFE
MAX_XATTR_VALUE_BYTES: Final = 0xFFFF

_SLOT_BYTES = 32
_ROOT_NID = 1
_INODE = struct.Struct("<HHHHQIIIIqII16x")  # erofs_inode_extended
_INODE_BYTES = _INODE.size
# An inode and the only chunk index behind it, up to the end of its last slot.
_INODE_AND_CHUNK = struct.Struct("<HHHHQIIIIqII16xHHI24x")
_CHUNK_INDEX = struct.Struct("<HHI")  # erofs_inode_chunk_index: advise, device_id, blkaddr
_DIRENT = struct.Struct("<QHBB")  # erofs_dirent: nid, nameoff, file_type, reserved
_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQ24x")  # erofs_super_block
_DEVICE_SLOT = struct.Struct("<64sII56x")  # erofs_deviceslot: tag, blocks, mapped_blkaddr
_XATTR_HEADER = struct.Struct("<IB7x")  # erofs_xattr_ibody_header: h_name_filter, h_shared_count
_XATTR_ENTRY = struct.Struct("<BBH")  # erofs_xattr_entry: e_name_len, e_name_index, e_value_size

_SUPERBLOCK_AT, _DEVICE_SLOT_AT = 1024, 1280
_MAGIC = 0xE0F5E1E2
_CHUNKED_FILE, _DEVICE_TABLE = 0x4, 0x8  # EROFS_FEATURE_INCOMPAT_
_EXTENDED = 1  # EROFS_INODE_LAYOUT_EXTENDED
_PLAIN, _INLINE, _CHUNK_BASED = 0, 2, 4  # EROFS_INODE_FLAT_PLAIN, _FLAT_INLINE, _CHUNK_BASED
_CHUNK_INDEXES = 0x20  # EROFS_CHUNK_FORMAT_INDEXES
_MAX_CHUNK_BITS = BLOCK_BITS + 0x1F  # EROFS_CHUNK_FORMAT_BLKBITS_MASK
_HOLE = 0xFFFFFFFF  # EROFS_NULL_ADDR

_KIND_MASK = 0o170000  # linux/stat.h, S_IFMT
# linux/fs_types.h, FT_*
_FILE_TYPES = {stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFCHR: 3, stat.S_IFBLK: 4, stat.S_IFIFO: 5, stat.S_IFSOCK: 6, stat.S_IFLNK: 7}
# EROFS_XATTR_INDEX_*: of a name that begins with one of these, the rest is stored.
_XATTR_PREFIXES = (
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
)


class Unrepresentable(ValueError):
    """Something that a file may have, but not in this format or not within its limits."""


class Extent:
    """Where a piece of a file is: `length` bytes at `offset` of the file, from block `block` of `device` on.

    `offset` is a multiple of the block size, and so is `length` unless the file ends there.
    """

    __slots__ = ("block", "device", "length", "offset")

    def __init__(self, offset: int, length: int, device: int, block: int) -> None:
        self.offset = offset
        self.length = length
        self.device = device
        self.block = block


class Inode:
    """A file of any kind: a directory has `children`, a symlink a `target`, a regular file `extents`, ascending, with zeros between them.

    `mode` has the kind's bits; `mtime_ns` may be negative; `device` is (major, minor).
    """

    __slots__ = ("children", "device", "extents", "gid", "links", "mode", "mtime_ns", "nid", "size_bytes", "target", "uid", "xattrs")

    def __init__(self, mode: int, *, uid: int = 0, gid: int = 0, mtime_ns: int = 0) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_ns = mtime_ns
        self.size_bytes = 0
        self.links = 1
        self.device = (0, 0)
        self.children: dict[bytes, Inode] | None = {} if stat.S_ISDIR(mode) else None
        self.target = b""
        self.extents: Sequence[Extent] = ()
        self.xattrs: dict[bytes, bytes] | None = None
        self.nid = 0


def encode(root: Inode, *, first_block: int, archive_bytes: int) -> tuple[bytes, bytes]:
    """The head of the index, and the metadata, which is to stand from block `first_block` on. Numbers the inodes.

    The tree must be one: no directory in two places. Raises `Unrepresentable`.
    """
    inodes, parents = _in_order(root)
    metadata = bytearray(_ROOT_NID * _SLOT_BYTES)
    bodies: list[_Body] = []
    for inode in inodes:
        slot = len(metadata) // _SLOT_BYTES
        if plain := _plain_file(inode, slot):
            metadata += plain
        else:
            # What it consists of depends on inodes that have no number yet.
            body = _Body(inode)
            metadata.extend(bytes(body.place(slot) * _SLOT_BYTES - len(metadata)))
            bodies.append(body)
    metadata.extend(bytes(-len(metadata) % BLOCK_BYTES))
    tail = bytearray()
    tail_block = first_block + len(metadata) // BLOCK_BYTES
    for body in bodies:
        data = body.data(parents)
        start = tail_block + len(tail) // BLOCK_BYTES
        if not body.inline and data:
            tail += data
            tail.extend(bytes(-len(tail) % BLOCK_BYTES))
        body.write(metadata, data, start)
    blocks = first_block + (len(metadata) + len(tail)) // BLOCK_BYTES
    if blocks >= _HOLE or archive_bytes >> BLOCK_BITS >= _HOLE:
        raise Unrepresentable("the layer is larger than 2 TiB")
    head = _head(inodes=len(inodes), blocks=blocks, first_block=first_block, archive_blocks=-(-archive_bytes // BLOCK_BYTES))
    return head, bytes(metadata + tail)


def encode_xattrs(xattrs: dict[bytes, bytes]) -> bytes:
    """Attributes as they stand behind an inode; nothing if there are none. Raises `Unrepresentable`."""
    if not xattrs:
        return b""
    encoded = bytearray(_XATTR_HEADER.pack(0, 0))
    for name, value in sorted(xattrs.items()):
        prefix, index = next(((prefix, index) for prefix, index in _XATTR_PREFIXES if name.startswith(prefix)), (b"", 0))
        rest = name[len(prefix) :]
        if not index or bool(rest) != prefix.endswith(b".") or len(rest) > MAX_NAME_BYTES or len(value) > MAX_XATTR_VALUE_BYTES:
            raise Unrepresentable(f"the attribute {name!r} of {len(value)} bytes")
        encoded += _XATTR_ENTRY.pack(len(rest), index, len(value)) + rest + value
        encoded.extend(bytes(-len(encoded) % 4))
    if len(encoded) > MAX_XATTRS_BYTES:
        raise Unrepresentable(f"{len(encoded)} bytes of attributes")
    return bytes(encoded)


def chunks(extents: Sequence[Extent], size_bytes: int) -> tuple[int, list[tuple[int, int]]]:
    """How a file is made of equal pieces: the power of two of blocks in each, and each one's device and block; a hole's is -1 (`_HOLE`).

    Raises `Unrepresentable` when the pieces would be too many.
    """
    # The largest piece of which every seam is a multiple. The end of the file is none.
    bits = min(max(BLOCK_BITS, (size_bytes - 1).bit_length()), _MAX_CHUNK_BITS)
    for extent in extents:
        for seam in (extent.offset, extent.offset + extent.length):
            if seam and seam < size_bytes:
                bits = min(bits, (seam & -seam).bit_length() - 1)
    assert bits >= BLOCK_BITS, "extents begin and end at blocks"
    count = -(-size_bytes >> bits)
    if count > MAX_CHUNKS:
        raise Unrepresentable(f"a sparse file of {count} pieces")
    pieces = [(INDEX_DEVICE, _HOLE)] * count
    for extent in extents:
        for number in range(extent.offset >> bits, -(-(extent.offset + extent.length) >> bits)):
            pieces[number] = (extent.device, extent.block + ((number << bits) - extent.offset >> BLOCK_BITS))
    return bits - BLOCK_BITS, pieces


def encode_directory(entries: dict[bytes, Inode], this: Inode, parent: Inode) -> bytes:
    """The blocks of a directory, the last one not filled up. Names are in the order of their bytes, within a block and over all."""
    all_entries = {**entries, b".": this, b"..": parent}
    encoded = bytearray()
    for names in _directory_blocks(all_entries):
        encoded.extend(bytes(-len(encoded) % BLOCK_BYTES))
        at = _DIRENT.size * len(names)
        for name in names:
            inode = all_entries[name]
            encoded += _DIRENT.pack(inode.nid, at, _FILE_TYPES[inode.mode & _KIND_MASK], 0)
            at += len(name)
        encoded += b"".join(names)
    return bytes(encoded)


def _directory_bytes(entries: dict[bytes, Inode]) -> int:
    """What `encode_directory` will return, in bytes."""
    blocks = _directory_blocks([b".", b"..", *entries])
    return (len(blocks) - 1) * BLOCK_BYTES + _DIRENT.size * len(blocks[-1]) + sum(map(len, blocks[-1]))


def _directory_blocks(names: Iterable[bytes]) -> list[list[bytes]]:
    """Which names are in each of a directory's blocks."""
    block: list[bytes] = []
    blocks = [block]
    left = BLOCK_BYTES
    for name in sorted(names):
        left -= _DIRENT.size + len(name)
        if left < 0:
            block = []
            blocks.append(block)
            left = BLOCK_BYTES - _DIRENT.size - len(name)
        block.append(name)
    return blocks


def _in_order(root: Inode) -> tuple[list[Inode], dict[int, Inode]]:
    """Every inode once, the root first, and the children of a directory side by side: they are looked at together.

    And by the `id` of each directory, the one above it.
    """
    inodes = [root]
    parents = {id(root): root}
    seen = {id(root)}
    pending = [root]
    while pending:
        directory = pending.pop()
        children = directory.children
        assert children is not None, "only directories are pending"
        directories = []
        for name in sorted(children):
            child = children[name]
            if id(child) not in seen:
                seen.add(id(child))
                inodes.append(child)
                if child.children is not None:
                    parents[id(child)] = directory
                    directories.append(child)
        pending.extend(reversed(directories))
    return inodes, parents


def _plain_file(inode: Inode, slot: int) -> bytes:
    """What stands in the slots from `slot` on, if it is a file of one extent that needs one chunk index, as most are; numbers it then."""
    if len(inode.extents) != 1 or inode.xattrs:
        return b""
    (extent,) = inode.extents
    size_bytes = inode.size_bytes
    if extent.offset or extent.length < size_bytes or size_bytes > 1 << _MAX_CHUNK_BITS or not size_bytes:
        return b""
    inode.nid = slot
    seconds, nanoseconds = divmod(inode.mtime_ns, 1_000_000_000)
    return _INODE_AND_CHUNK.pack(
        *(_EXTENDED | _CHUNK_BASED << 1, 0, inode.mode, 0, size_bytes),
        _CHUNK_INDEXES | max(BLOCK_BITS, (size_bytes - 1).bit_length()) - BLOCK_BITS,
        *(slot & 0xFFFFFFFF, inode.uid, inode.gid, seconds, nanoseconds, inode.links),
        *(0, extent.device, extent.block),
    )


class _Body:
    """An inode with its attributes, and its data or where that is, on the way to its slots."""

    __slots__ = ("_at", "_chunk_bits", "_inode", "_pieces", "_xattrs", "inline", "size_bytes")

    def __init__(self, inode: Inode) -> None:
        self._inode = inode
        self._at = 0
        self._xattrs = encode_xattrs(inode.xattrs) if inode.xattrs else b""
        self._pieces: list[tuple[int, int]] = []
        self._chunk_bits = 0
        self.inline = False
        if inode.children is not None:
            self.size_bytes = _directory_bytes(inode.children)
        elif inode.target:
            self.size_bytes = len(inode.target)
        else:
            self.size_bytes = inode.size_bytes
            if inode.size_bytes:
                self._chunk_bits, self._pieces = chunks(inode.extents, inode.size_bytes)
            return
        self.inline = _INODE_BYTES + len(self._xattrs) + self.size_bytes <= BLOCK_BYTES

    def place(self, slot: int) -> int:
        """Take slots from `slot` on, and number the inode; returns the next free one."""
        if self.inline:
            # kernel: data that stands beside its inode is in one block.
            while (slot * _SLOT_BYTES + _INODE_BYTES + len(self._xattrs)) % BLOCK_BYTES + self.size_bytes > BLOCK_BYTES:
                slot += 1
        self._at = slot * _SLOT_BYTES
        self._inode.nid = slot
        end = self._data_at() + (self.size_bytes if self.inline else len(self._pieces) * _CHUNK_INDEX.size)
        return -(-end // _SLOT_BYTES)

    def data(self, parents: dict[int, Inode]) -> bytes:
        """What a directory or a symlink consists of. When all inodes are numbered."""
        if self._inode.children is not None:
            return encode_directory(self._inode.children, self._inode, parents[id(self._inode)])
        return self._inode.target

    def write(self, metadata: bytearray, data: bytes, start: int) -> None:
        """Fill the slots; `start` is the block of data that does not stand in here."""
        inode = self._inode
        layout, where, links = _PLAIN, 0, inode.links
        if inode.children is not None:
            links = 2 + sum(child.children is not None for child in inode.children.values())
        if self.inline:
            layout = _INLINE
            metadata[self._data_at() : self._data_at() + len(data)] = data
        elif data:
            where = start
        elif self._pieces:
            layout, where = _CHUNK_BASED, _CHUNK_INDEXES | self._chunk_bits
            for number, (device, block) in enumerate(self._pieces):
                _CHUNK_INDEX.pack_into(metadata, self._data_at() + number * _CHUNK_INDEX.size, 0, device, block)
        elif stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
            where = _device_number(*inode.device)
        seconds, nanoseconds = divmod(inode.mtime_ns, 1_000_000_000)
        _INODE.pack_into(
            metadata,
            self._at,
            *(_EXTENDED | layout << 1, (len(self._xattrs) - 12) // 4 + 1 if self._xattrs else 0, inode.mode, 0),
            *(self.size_bytes, where, inode.nid & 0xFFFFFFFF, inode.uid, inode.gid, seconds, nanoseconds, links),
        )
        metadata[self._at + _INODE_BYTES : self._at + _INODE_BYTES + len(self._xattrs)] = self._xattrs

    def _data_at(self) -> int:
        """Where in the metadata follows what comes after the attributes: data at once, chunk indexes at a multiple of eight."""
        at = self._at + _INODE_BYTES + len(self._xattrs)
        return at if self.inline else at + -at % _CHUNK_INDEX.size


def _device_number(major: int, minor: int) -> int:
    """kernel: include/linux/kdev_t.h, new_encode_dev."""
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def _head(*, inodes: int, blocks: int, first_block: int, archive_blocks: int) -> bytes:
    head = bytearray(HEAD_BYTES)
    _SUPERBLOCK.pack_into(
        head,
        _SUPERBLOCK_AT,
        *(_MAGIC, 0, 0, BLOCK_BITS, 0, _ROOT_NID),  # checksum, compatible features, further slots: none
        *(inodes, 0, 0, blocks, first_block, 0, bytes(16), bytes(16)),
        *(_CHUNKED_FILE | _DEVICE_TABLE, 0, 1, _DEVICE_SLOT_AT // _DEVICE_SLOT.size, 0, 0, 0, 0),
    )
    _DEVICE_SLOT.pack_into(head, _DEVICE_SLOT_AT, b"", archive_blocks, 0)
    return bytes(head)
