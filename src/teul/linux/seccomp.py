"""Seccomp filters: OCI `linux.seccomp` to a BPF program (by libseccomp), and a BPF program onto the calling thread.

Compiling is done ahead of time and needs the library; installing is done in every container's first process and needs only the
kernel, so libseccomp is loaded at the first compilation. A program is its `struct sock_filter` array, eight bytes per instruction.

Before libseccomp's program stands a short prologue, made here. A profile lists the system calls of its day; a newer call would get the
default action, EPERM for Docker's profile, where programs expect ENOSYS to fall back on what they did before. So numbers above all those
that the profile names get ENOSYS, as in runc (libcontainer/seccomp/patchbpf).
"""

from __future__ import annotations

import ctypes
import errno
import operator
import os
import struct
from collections.abc import Collection

from teul.linux.syscalls import NR, check, libc, os_error, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

# linux/seccomp.h
SECCOMP_FILTER_FLAG_TSYNC = 1 << 0
SECCOMP_FILTER_FLAG_LOG = 1 << 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1 << 2
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_MODE_FILTER = 2
_PR_SET_SECCOMP = 22  # linux/prctl.h
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": SECCOMP_FILTER_FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}

# seccomp.h of libseccomp. The low 16 bits of ERRNO and TRACE carry a number.
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_NUMBER = frozenset(("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"))
_PERMISSIVE = frozenset(("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"))
_OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_SCMP_FLTATR_CTL_OPTIMIZE = 8
_BINARY_TREE = 2
_SMALL_PROFILE = 32  # libseccomp up to 2.5.4 makes a wrong binary tree of an empty filter, and a short filter gains nothing by a tree
_MAX_ARGUMENTS = 6
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS, linux/bpf_common.h

# libseccomp numbers an architecture as the kernel's AUDIT_ARCH_* does, but for x32, which the kernel calls x86_64 with this bit set in
# the system call's number.
_SCMP_ARCH_X32 = 0x4000003E
_AUDIT_ARCH_X86_64 = 0xC000003E
_AUDIT_ARCH_AARCH64 = 0xC00000B7
_AUDIT_ARCH_S390 = frozenset((0x00000016, 0x80000016))
_X32_BIT = 0x40000000

# The kernel's own numbers of the architectures that `allow_program` makes filters for, by what uname(2) calls them.
_AUDIT_ARCHES = {"x86_64": _AUDIT_ARCH_X86_64, "aarch64": _AUDIT_ARCH_AARCH64}

# Classic BPF (linux/filter.h) and the offsets in struct seccomp_data.
_LD_W_ABS, _JA, _JEQ, _JGT, _JGE, _JSET, _AND, _RET = 0x20, 0x05, 0x15, 0x25, 0x35, 0x45, 0x54, 0x06
_JUMPS: dict[int, Callable[[int, int], int]] = {_JEQ: operator.eq, _JGT: operator.gt, _JGE: operator.ge, _JSET: operator.and_}
_NATIVE_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_ACTION_MASK = 0xFFFF0000
_GOES_ON = frozenset((_ACTIONS["SCMP_ACT_ALLOW"], _ACTIONS["SCMP_ACT_LOG"]))
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE = 0, 4
_RET_ENOSYS = 0x00050000 | errno.ENOSYS
_RET_EPERM = 0x00050000 | errno.EPERM
_RET_KILL_PROCESS, _RET_ALLOW = 0x80000000, 0x7FFF0000


class _scmp_arg_cmp(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("datum_a", ctypes.c_uint64), ("datum_b", ctypes.c_uint64))


class _sock_fprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


_prctl = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong, use_errno=True)(
    ("prctl", libc)
)
_LIBRARY = "libseccomp.so.2"
_libraries: list[ctypes.CDLL] = []


class LibraryMissing(OSError):
    """libseccomp is not on this host."""


def compile_filter(profile: dict[str, Any]) -> bytes:
    """The BPF program for OCI `linux.seccomp` on this machine's architecture and those the profile lists besides.

    System calls that libseccomp does not know are passed over (this machine cannot make them, or they get ENOSYS, see above), and so
    are rules that only repeat the default. Takes some 10 ms for Docker's profile: keep the result. A profile that makes no sense is
    EINVAL; without libseccomp there is `LibraryMissing`.
    """
    library = _library()
    default = _action(profile.get("defaultAction"), profile.get("defaultErrnoRet"))
    context = library.seccomp_init(default)
    if not context:
        raise OSError(errno.EINVAL, f"seccomp_init: invalid default action {profile.get('defaultAction')}")
    try:
        architectures = _add_architectures(library, context, profile.get("architectures") or [])
        rules = profile.get("syscalls") or []
        if sum(len(rule.get("names") or ()) for rule in rules) > _SMALL_PROFILE:
            _call(library.seccomp_attr_set(context, _SCMP_FLTATR_CTL_OPTIMIZE, _BINARY_TREE), "seccomp_attr_set(CTL_OPTIMIZE)")
        for rule in rules:
            _add_rule(library, context, rule, default)
        program = _export(library, context)
    finally:
        library.seccomp_release(context)
    if profile.get("defaultAction") not in _PERMISSIVE and default != _RET_ENOSYS:
        names = [name for rule in rules for name in rule.get("names") or ()]
        program = enosys_prologue(_highest_numbers(library, architectures, names)) + program
    if len(program) > _MAX_INSTRUCTIONS * 8:
        raise OSError(errno.E2BIG, f"the seccomp profile makes {len(program) // 8} BPF instructions; the kernel takes {_MAX_INSTRUCTIONS}")
    return program


def is_available() -> bool:
    """Whether libseccomp is installed, without which no filter can be compiled."""
    try:
        _library()
    except OSError:
        return False
    return True


def filter_flags(profile: dict[str, Any]) -> int:
    """The seccomp(2) flags for `install_filter`. As in runc, a profile without the field gets SPEC_ALLOW: a filter would else switch on
    the mitigation of speculative store bypass, which costs and which Linux no longer thinks worth it (commit 2f46993d83ff, 5.16).
    """
    flags = profile.get("flags")
    if flags is None:
        return SECCOMP_FILTER_FLAG_SPEC_ALLOW
    result = 0
    for flag in flags:
        if flag not in _FLAGS:
            raise OSError(errno.EINVAL, f"unknown seccomp flag {flag!r}")
        result |= _FLAGS[flag]
    return result


def permits(program: bytes, calls: Sequence[tuple[str, Sequence[int]]]) -> bool:
    """Whether under `program` all `calls` (name and arguments) of a native process would be made. Pure."""
    return all(_verdict(program, NR[name], arguments) & _ACTION_MASK in _GOES_ON for name, arguments in calls)


def _verdict(program: bytes, number: int, arguments: Sequence[int]) -> int:
    """What the kernel would return from `program` for this system call: the instructions that libseccomp and we emit, no others."""
    values = [*arguments, *(0,) * (_MAX_ARGUMENTS - len(arguments))]
    data = struct.pack("=iIQ6Q", number, _NATIVE_ARCHITECTURES[os.uname().machine], 0, *values)
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = 0
    while True:
        code, jump_true, jump_false, value = instructions[at]
        at += 1
        if code == _LD_W_ABS:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif code == _AND:
            accumulator &= value
        elif code == _JA:
            at += value
        elif code in _JUMPS:
            at += jump_true if _JUMPS[code](accumulator, value) else jump_false
        elif code == _RET:
            return int(value)
        else:
            raise OSError(errno.EINVAL, f"a BPF instruction that no filter of ours has: {code:#x}")


def install_filter(program: bytes, flags: int = SECCOMP_FILTER_FLAG_SPEC_ALLOW) -> None:
    """Put the calling thread under `program` for good. Needs no_new_privs or CAP_SYS_ADMIN (EACCES otherwise)."""
    buffer = ctypes.create_string_buffer(program, len(program))
    filter_program = _sock_fprog(len(program) // 8, ctypes.addressof(buffer))
    address = ctypes.addressof(filter_program)
    try:
        syscall("seccomp", _SECCOMP_SET_MODE_FILTER, flags, address)
    except OSError as error:
        # An architecture whose number of seccomp(2) is not known here, or an outer filter that knows only the old call, which has no flags.
        if error.errno != errno.ENOSYS or flags & ~SECCOMP_FILTER_FLAG_SPEC_ALLOW:
            raise
        check(_prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, address, 0, 0), "prctl(PR_SET_SECCOMP)")


def allow_program(machine: str, numbers: Collection[int]) -> bytes:
    """A filter that allows the calls `numbers` of `machine` (as in uname(2)) and no others: made here, without libseccomp.

    Others are EPERM, or ENOSYS above the highest of `numbers`, where programs expect to find an older kernel and not a closed door. A call
    by the numbers of another architecture ends the process. ENOSYS for a machine that is not known here. At most 250 numbers.
    """
    if machine not in _AUDIT_ARCHES:
        raise OSError(errno.ENOSYS, f"no seccomp filter can be made for the architecture {machine}")
    code = [
        _instruction(_LD_W_ABS, _OFFSET_ARCHITECTURE),
        _instruction(_JEQ, _AUDIT_ARCHES[machine], jump_true=1),
        _instruction(_RET, _RET_KILL_PROCESS),
        _instruction(_LD_W_ABS, _OFFSET_NUMBER),
        # x32's numbers are x86-64's with a high bit, and so above the highest.
        _instruction(_JGT, max(numbers), jump_false=1),
        _instruction(_RET, _RET_ENOSYS),
    ]
    left = len(numbers)
    for number in sorted(numbers):
        code.append(_instruction(_JEQ, number, jump_true=left))  # over the tests that follow, and the refusal
        left -= 1
    code += [_instruction(_RET, _RET_EPERM), _instruction(_RET, _RET_ALLOW)]
    return b"".join(code)


def enosys_prologue(highest: dict[int, int]) -> bytes:
    """BPF that answers ENOSYS to numbers above `highest[architecture]` (libseccomp's tokens) and else falls through to what follows."""
    sections = [_section(token, highest) for token in sorted(highest) if token != _SCMP_ARCH_X32]
    code = [_instruction(_LD_W_ABS, _OFFSET_ARCHITECTURE)]
    rest = sum(len(section) for section in sections)
    for section in sections:
        rest -= len(section)
        code += section[:-1]
        code.append(_instruction(_JA, rest))  # this architecture's number is fine: over the other sections
    return b"".join(code)


def _section(token: int, highest: dict[int, int]) -> list[bytes]:
    """The test for one architecture; it ends in a refusal and in a jump to the end of the prologue, whose distance is not known yet."""
    limit = highest[token]
    if token == _AUDIT_ARCH_X86_64 and _SCMP_ARCH_X32 in highest:
        tests = [
            _instruction(_JGE, _X32_BIT, jump_true=1),
            _instruction(_JGT, limit, jump_true=1, jump_false=2),
            _instruction(_JGT, highest[_SCMP_ARCH_X32], jump_false=1),
        ]
    elif token == _AUDIT_ARCH_X86_64:
        # An x32 call where the profile has no x32: not a new call but a foreign one, which the profile's program refuses.
        tests = [_instruction(_JGE, _X32_BIT, jump_true=2), _instruction(_JGT, limit, jump_false=1)]
    elif token in _AUDIT_ARCH_S390:
        # kernel: on s390, a number that it does not know arrives as 0.
        tests = [_instruction(_JEQ, 0, jump_true=1), _instruction(_JGT, limit, jump_false=1)]
    else:
        tests = [_instruction(_JGT, limit, jump_false=1)]
    section = [_instruction(_LD_W_ABS, _OFFSET_NUMBER), *tests, _instruction(_RET, _RET_ENOSYS), b""]
    return [_instruction(_JEQ, token, jump_false=len(section)), *section]


def _instruction(code: int, value: int, *, jump_true: int = 0, jump_false: int = 0) -> bytes:
    """struct sock_filter"""
    return struct.pack("=HBBI", code, jump_true, jump_false, value)


def _library() -> ctypes.CDLL:
    """libseccomp with its prototypes, loaded once."""
    if _libraries:
        return _libraries[0]
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise LibraryMissing(errno.ENOSYS, f"{_LIBRARY} is not installed (Debian package libseccomp2)") from error
    context, uint32 = ctypes.c_void_p, ctypes.c_uint32
    for name, result, arguments in (
        ("seccomp_init", context, (uint32,)),
        ("seccomp_release", None, (context,)),
        ("seccomp_arch_native", uint32, ()),
        ("seccomp_arch_resolve_name", uint32, (ctypes.c_char_p,)),
        ("seccomp_arch_add", ctypes.c_int, (context, uint32)),
        ("seccomp_attr_set", ctypes.c_int, (context, ctypes.c_int, uint32)),
        ("seccomp_syscall_resolve_name", ctypes.c_int, (ctypes.c_char_p,)),
        ("seccomp_syscall_resolve_name_arch", ctypes.c_int, (uint32, ctypes.c_char_p)),
        ("seccomp_rule_add_array", ctypes.c_int, (context, uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_scmp_arg_cmp))),
        ("seccomp_export_bpf", ctypes.c_int, (context, ctypes.c_int)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    _libraries.append(library)
    return library


def _call(result: int, function: str, what: str | None = None) -> None:
    """libseccomp returns a negated errno."""
    if result < 0:
        raise os_error(-result, function, what)


def _action(name: object, number: int | None) -> int:
    if not isinstance(name, str) or name not in _ACTIONS:
        raise OSError(errno.EINVAL, f"unsupported seccomp action {name!r}")
    if name in _WITH_NUMBER:
        return _ACTIONS[name] | (errno.EPERM if number is None else number & 0xFFFF)
    return _ACTIONS[name]


def _add_architectures(library: ctypes.CDLL, context: int, names: list[str]) -> list[int]:
    """Add the architectures beside the native one, which every filter has; returns the tokens of all."""
    tokens = [int(library.seccomp_arch_native())]
    for name in names:
        token = int(library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode()))
        if token == 0:
            raise OSError(errno.EINVAL, f"unknown seccomp architecture {name!r}")
        if token not in tokens:
            _call(library.seccomp_arch_add(context, token), "seccomp_arch_add", name)
            tokens.append(token)
    return tokens


def _add_rule(library: ctypes.CDLL, context: int, rule: dict[str, Any], default: int) -> None:
    action = _action(rule.get("action"), rule.get("errnoRet"))
    if action == default:
        return  # libseccomp refuses a rule that only repeats the default
    comparisons = [_comparison(argument) for argument in rule.get("args") or []]
    indexes = [comparison.arg for comparison in comparisons]
    # runc: two conditions on one argument are alternatives, since libseccomp once had no way to mean "and".
    alternatives = [comparisons] if len(set(indexes)) == len(indexes) else [[comparison] for comparison in comparisons]
    for name in rule.get("names") or []:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            continue
        for conditions in alternatives:
            array = (_scmp_arg_cmp * len(conditions))(*conditions)
            _call(library.seccomp_rule_add_array(context, action, number, len(conditions), array), "seccomp_rule_add", name)


def _comparison(argument: dict[str, Any]) -> _scmp_arg_cmp:
    """For MASKED_EQ, OCI's `value` is the mask and `valueTwo` what the masked argument must be; other operators use `value` alone."""
    comparison = _OPERATORS.get(argument.get("op") or "")
    index = argument.get("index", 0)
    if comparison is None or not 0 <= index < _MAX_ARGUMENTS:
        raise OSError(errno.EINVAL, f"invalid seccomp condition: argument {index}, operator {argument.get('op')!r}")
    return _scmp_arg_cmp(index, comparison, argument.get("value") or 0, argument.get("valueTwo") or 0)


def _export(library: ctypes.CDLL, context: int) -> bytes:
    fd = os.memfd_create("teul-seccomp", os.MFD_CLOEXEC)
    try:
        _call(library.seccomp_export_bpf(context, fd), "seccomp_export_bpf")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def _highest_numbers(library: ctypes.CDLL, tokens: list[int], names: list[str]) -> dict[int, int]:
    """For each architecture the highest number among `names`; calls that it lacks have negative numbers and do not count."""
    encoded = [name.encode() for name in names]
    highest = {token: max((library.seccomp_syscall_resolve_name_arch(token, name) for name in encoded), default=-1) for token in tokens}
    return {token: number for token, number in highest.items() if number >= 0}
