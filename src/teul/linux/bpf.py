"""eBPF programs of type BPF_PROG_TYPE_CGROUP_DEVICE: written here instruction by instruction, loaded and attached by bpf(2).

Only cgroup v2 filters devices this way. `device_program` is pure; a program is its bytes, eight per instruction.

Theory: the kernel asks for one device and one or more of mknod, read and write. A later rule wins over an earlier one, for each
access by itself; so the program walks the rules from the last to the first and keeps the accesses not yet granted in r2. A deny
rule that touches one of them ends in refusal, an allow rule takes those that it grants out of r2, and when none is left there the answer
is yes. What no rule speaks of is refused.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

from teul.linux.syscalls import syscall

# One rule: (allow, "b" | "c" | "a", major or None for all, minor or None for all, accesses out of "rwm").
DeviceRule = tuple[bool, str, int | None, int | None, str]

# linux/bpf.h
_BPF_PROG_LOAD = 5
_BPF_PROG_ATTACH = 8
_BPF_PROG_GET_FD_BY_ID = 13
_BPF_PROG_QUERY = 16
_BPF_PROG_TYPE_CGROUP_DEVICE = 15
_BPF_CGROUP_DEVICE = 6
_BPF_F_ALLOW_MULTI = 1 << 1
_BPF_F_REPLACE = 1 << 2
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_TYPE = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_ALL_ACCESS = 7

# Instruction codes: class | operation | operand source (linux/bpf_common.h, linux/bpf.h).
_LDX_W = 0x61  # dst = *(u32 *)(src + off)
_MOV_K = 0xB7
_MOV_X = 0xBF
_AND_K = 0x57
_RSH_K = 0x77
_JEQ_K = 0x15
_JNE_K = 0x55
_EXIT = 0x95

_R0, _R1, _R2, _R3, _R4, _R5 = range(6)  # r0 answer, r1 context, r2 accesses not yet granted, r3 type, r4 major, r5 minor


def instruction(code: int, *, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    """struct bpf_insn. The two registers share a byte, dst in the low half (little-endian machines)."""
    return struct.pack("=BBhi", code, dst | src << 4, off, imm)


def device_program(rules: Sequence[DeviceRule]) -> bytes:
    """The program that enforces `rules`: later rules win; what no rule matches is refused."""
    program = [
        instruction(_LDX_W, dst=_R2, src=_R1, off=0),  # bpf_cgroup_dev_ctx.access_type: accesses << 16 | type
        instruction(_MOV_X, dst=_R3, src=_R2),
        instruction(_AND_K, dst=_R3, imm=0xFFFF),
        instruction(_RSH_K, dst=_R2, imm=16),
        instruction(_LDX_W, dst=_R4, src=_R1, off=4),
        instruction(_LDX_W, dst=_R5, src=_R1, off=8),
    ]
    for rule in reversed(rules):
        block, is_final = _rule_block(rule)
        program += block
        if is_final:
            break  # kernel: the verifier refuses instructions that cannot be reached
    else:
        program += _answer(0)
    return b"".join(program)


def _rule_block(rule: DeviceRule) -> tuple[list[bytes], bool]:
    """The instructions of one rule, and whether none of the kernel's questions can fall through them to the next rule."""
    allow, kind, major, minor, access = rule
    bits = 0
    for letter in access:
        bits |= _ACCESS[letter]
    tests = []
    if kind != "a":
        tests.append((_R3, _TYPE[kind]))
    if major is not None:
        tests.append((_R4, major))
    if minor is not None:
        tests.append((_R5, minor))
    verdict = _verdict(allow=allow, bits=bits)
    block = []
    for position, (register, value) in enumerate(tests):
        block.append(instruction(_JNE_K, dst=register, imm=value, off=len(tests) - position - 1 + len(verdict)))
    return block + verdict, not tests and bits == _ALL_ACCESS


def _verdict(*, allow: bool, bits: int) -> list[bytes]:
    answer = _answer(int(allow))
    if bits == _ALL_ACCESS:
        return answer
    if allow:
        granted = instruction(_AND_K, dst=_R2, imm=_ALL_ACCESS & ~bits)
        return [granted, instruction(_JNE_K, dst=_R2, imm=0, off=len(answer)), *answer]
    touched = [instruction(_MOV_X, dst=_R0, src=_R2), instruction(_AND_K, dst=_R0, imm=bits)]
    return [*touched, instruction(_JEQ_K, dst=_R0, imm=0, off=len(answer)), *answer]


def _answer(value: int) -> list[bytes]:
    return [instruction(_MOV_K, dst=_R0, imm=value), instruction(_EXIT)]


def load_device_program(program: bytes) -> int:
    """Load `program` and return its descriptor (close-on-exec, the caller's to close). EPERM without CAP_BPF or CAP_SYS_ADMIN."""
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQIIQII16sII",
        _BPF_PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        0,  # log_level
        0,  # log_size
        0,  # log_buf: no verifier log is asked for
        0,  # kern_version
        0,  # prog_flags
        b"teul_devices",
        0,  # prog_ifindex
        _BPF_CGROUP_DEVICE,
    )
    return _bpf(_BPF_PROG_LOAD, attributes, "BPF_PROG_LOAD")


def attach_device_program(cgroup_fd: int, program: bytes) -> None:
    """Make `program` the device filter of the cgroup, in place of the one attached to this very cgroup before, if any.

    Filters of the cgroup's ancestors go on holding, and processes inside may add their own to cgroups below (BPF_F_ALLOW_MULTI).
    """
    program_fd = load_device_program(program)
    try:
        attached = attached_device_programs(cgroup_fd)
        if len(attached) != 1:
            _attach(cgroup_fd, program_fd, _BPF_F_ALLOW_MULTI, 0)
            return
        old_fd = _bpf(_BPF_PROG_GET_FD_BY_ID, struct.pack("=III", attached[0], 0, 0), "BPF_PROG_GET_FD_BY_ID")
        try:
            _attach(cgroup_fd, program_fd, _BPF_F_ALLOW_MULTI | _BPF_F_REPLACE, old_fd)
        finally:
            os.close(old_fd)
    finally:
        os.close(program_fd)


def attached_device_programs(cgroup_fd: int) -> list[int]:
    """The kernel's ids of the device programs attached to this very cgroup (not to its ancestors)."""
    room = 64  # BPF_CGROUP_MAX_PROGS
    ids = (ctypes.c_uint32 * room)()
    attributes = struct.pack("=IIIIQII", cgroup_fd, _BPF_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), room, 0)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    syscall("bpf", _BPF_PROG_QUERY, ctypes.addressof(buffer), len(attributes), path="BPF_PROG_QUERY")
    count = struct.unpack_from("=I", buffer, 24)[0]
    return list(ids[:count])


def _attach(cgroup_fd: int, program_fd: int, flags: int, replaced_fd: int) -> None:
    attributes = struct.pack("=IIIII", cgroup_fd, program_fd, _BPF_CGROUP_DEVICE, flags, replaced_fd)
    _bpf(_BPF_PROG_ATTACH, attributes, "BPF_PROG_ATTACH")


def _bpf(command: int, attributes: bytes, name: str) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    try:
        return syscall("bpf", command, ctypes.addressof(buffer), len(attributes), path=name)
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EPERM}:
            error.add_note("device filters on cgroup v2 need a kernel with CONFIG_CGROUP_BPF, and CAP_BPF or CAP_SYS_ADMIN")
        raise
