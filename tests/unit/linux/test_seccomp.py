"""Compiled seccomp filters, run by a small interpreter of classic BPF: what each system call gets."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teul.linux import seccomp
from teul.linux.process import CLONE_PARENT
from teul.linux.seccomp import allow_program, compile_filter, enosys_prologue, filter_flags
from teul.oci.seccomp_profile import default_profile, resolve_profile
from teul.runtime.child.calls import LAST_CALLS

X86_64, X86, AARCH64, S390X = 0xC000003E, 0x40000003, 0xC00000B7, 0x80000016
X32, X32_BIT = 0x4000003E, 0x40000000
ALLOW, KILL, KILL_PROCESS, ERRNO = 0x7FFF0000, 0, 0x80000000, 0x00050000
DENIED = ERRNO | errno.EPERM
MISSING = ERRNO | errno.ENOSYS

# asm/unistd_64.h
READ, SOCKET, CLONE, PERSONALITY, OPENAT2 = 0, 41, 56, 135, 437
FELL_THROUGH = -1


def run(program: bytes, number: int, args: tuple[int, ...] = (), *, architecture: int = X86_64) -> int:
    """The filter's answer for one system call; FELL_THROUGH when it runs off its end exactly."""
    code = [struct.unpack_from("=HBBI", program, offset) for offset in range(0, len(program), 8)]
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(args + (0,) * 6)[:6])
    accumulator, position = 0, 0
    while position < len(code):
        opcode, jump_true, jump_false, value = code[position]
        position += 1
        match opcode:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x05:
                position += value
            case 0x15:
                position += jump_true if accumulator == value else jump_false
            case 0x25:
                position += jump_true if accumulator > value else jump_false
            case 0x35:
                position += jump_true if accumulator >= value else jump_false
            case 0x45:
                position += jump_true if accumulator & value else jump_false
            case 0x54:
                accumulator &= value
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"unexpected opcode {opcode:#x}")
    assert position == len(code)
    return FELL_THROUGH


def profile(*rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list(rules), **fields}


def allow(*names: str, **fields: Any) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **fields}


needs_x86_64 = pytest.mark.skipif(seccomp._library().seccomp_arch_native() != X86_64, reason="the numbers are x86_64's")


@needs_x86_64
def test_what_is_listed_is_allowed_and_the_rest_gets_the_default() -> None:
    program = compile_filter(profile(allow("read", "openat2")))
    assert run(program, READ) == ALLOW
    assert run(program, OPENAT2) == ALLOW
    assert run(program, SOCKET) == DENIED


@needs_x86_64
def test_calls_newer_than_the_profile_do_not_exist() -> None:
    """Programs fall back on ENOSYS; EPERM would stop them. runc libcontainer/seccomp/patchbpf."""
    program = compile_filter(profile(allow("read", "openat2")))
    assert run(program, OPENAT2 + 1) == MISSING
    assert run(program, 0x3FFFFFFF) == MISSING


@needs_x86_64
def _clone_without(flags: int) -> dict[str, Any]:
    """Allow all but clone(2) with any of `flags`."""
    condition = {"index": 0, "value": flags, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["setsid", "ioctl"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [condition]},
        ],
    }


@pytest.mark.parametrize(
    ("action", "number", "answer"),
    [("SCMP_ACT_ALLOW", None, ALLOW), ("SCMP_ACT_ERRNO", errno.ENOSYS, MISSING), ("SCMP_ACT_LOG", None, 0x7FFC0000)],
)
def test_a_permissive_default_is_left_alone(action: str, number: int | None, answer: int) -> None:
    program = compile_filter(profile({"names": ["read"], "action": "SCMP_ACT_KILL_PROCESS"}, defaultAction=action, defaultErrnoRet=number))
    assert run(program, READ) == KILL_PROCESS
    assert run(program, 100_000) == answer


@needs_x86_64
@pytest.mark.parametrize(
    ("action", "number", "answer"),
    [
        ("SCMP_ACT_KILL", None, KILL),
        ("SCMP_ACT_KILL_THREAD", None, KILL),
        ("SCMP_ACT_KILL_PROCESS", None, KILL_PROCESS),
        ("SCMP_ACT_TRAP", None, 0x00030000),
        ("SCMP_ACT_ERRNO", None, DENIED),
        ("SCMP_ACT_ERRNO", 0, ERRNO),
        ("SCMP_ACT_ERRNO", errno.ENOTTY, ERRNO | errno.ENOTTY),
        ("SCMP_ACT_TRACE", 7, 0x7FF00007),
        ("SCMP_ACT_LOG", None, 0x7FFC0000),
    ],
)
def test_actions(action: str, number: int | None, answer: int) -> None:
    rule = {"names": ["read"], "action": action, "errnoRet": number}
    assert run(compile_filter(profile(rule, defaultAction="SCMP_ACT_ALLOW")), READ) == answer


@needs_x86_64
def test_a_rule_that_repeats_the_default_is_passed_over() -> None:
    program = compile_filter(profile(allow("read"), {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM}))
    assert run(program, SOCKET) == DENIED


@needs_x86_64
def test_unknown_names_are_passed_over_and_do_not_count_as_the_newest() -> None:
    program = compile_filter(profile(allow("read", "a_call_from_the_future")))
    assert run(program, READ) == ALLOW
    assert run(program, READ + 1) == MISSING


VALUES = [0, 1, 38, 39, 40, 0xFFFFFFFF, 0x1_0000_0027]


@needs_x86_64
@pytest.mark.parametrize(
    ("operator", "holds"),
    [
        ("SCMP_CMP_NE", lambda value: value != 39),
        ("SCMP_CMP_LT", lambda value: value < 39),
        ("SCMP_CMP_LE", lambda value: value <= 39),
        ("SCMP_CMP_EQ", lambda value: value == 39),
        ("SCMP_CMP_GE", lambda value: value >= 39),
        ("SCMP_CMP_GT", lambda value: value > 39),
    ],
)
def test_comparisons_are_of_64_bits(operator: str, holds: Any) -> None:
    program = compile_filter(profile(allow("socket", args=[{"index": 1, "value": 39, "op": operator}]), allow("openat2")))
    assert [run(program, SOCKET, (0, value)) == ALLOW for value in VALUES] == [holds(value) for value in VALUES]


@needs_x86_64
def test_masked_equality_takes_the_mask_first() -> None:
    """OCI config-linux.md: `value` is the mask, `valueTwo` what is compared."""
    rule = allow("clone", args=[{"index": 0, "value": 0xF0, "valueTwo": 0x30, "op": "SCMP_CMP_MASKED_EQ"}])
    program = compile_filter(profile(rule, allow("openat2")))
    assert run(program, CLONE, (0x3F,)) == ALLOW
    assert run(program, CLONE, (0x70,)) == DENIED


@needs_x86_64
def test_conditions_on_different_arguments_must_all_hold() -> None:
    conditions = [{"index": index, "value": 1, "op": "SCMP_CMP_EQ"} for index in (0, 1)]
    program = compile_filter(profile(allow("socket", args=conditions), allow("openat2")))
    assert run(program, SOCKET, (1, 1)) == ALLOW
    assert run(program, SOCKET, (1, 0)) == DENIED


@needs_x86_64
def test_conditions_on_one_argument_are_alternatives() -> None:
    """As runc has it."""
    conditions = [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"} for value in (0, 8)]
    program = compile_filter(profile(allow("personality", args=conditions), allow("openat2")))
    assert [run(program, PERSONALITY, (value,)) for value in (0, 8, 9)] == [ALLOW, ALLOW, DENIED]


@needs_x86_64
def test_further_architectures_are_added_and_others_are_refused() -> None:
    program = compile_filter(profile(allow("read"), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]))
    assert run(program, 3, architecture=X86) == ALLOW  # read of asm/unistd_32.h
    assert run(program, 4, architecture=X86) == MISSING
    assert run(program, X32_BIT | READ) == ALLOW
    assert run(program, X32_BIT | READ + 1) == MISSING
    assert run(program, READ, architecture=AARCH64) == KILL


@needs_x86_64
def test_an_x32_call_is_foreign_where_the_profile_has_no_x32() -> None:
    program = compile_filter(profile(allow("read")))
    assert run(program, X32_BIT | READ) == KILL
    assert run(compile_filter(profile(allow("read"), architectures=[])), READ, architecture=X86) == KILL


@needs_x86_64
def test_the_binary_tree_means_the_same_as_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """libseccomp's tree is used for long profiles; it must decide every call like the plain list of rules."""
    from teul.oci.seccomp_profile import default_profile, resolve_profile

    resolved = resolve_profile(default_profile(), capabilities=frozenset(), architecture="amd64", kernel=(6, 1))
    assert resolved is not None
    tree = compile_filter(resolved)
    monkeypatch.setattr(seccomp, "_SMALL_PROFILE", 1 << 20)
    plain = compile_filter(resolved)
    assert tree != plain
    for architecture in (X86_64, X86):
        for number in [*range(480), *range(X32_BIT, X32_BIT + 600)]:
            for argument in (0, 0x7E020000, 0xFFFFFFFF):
                answers = [run(program, number, (argument, argument), architecture=architecture) for program in (tree, plain)]
                assert answers[0] == answers[1], (hex(architecture), number)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (profile(defaultAction="SCMP_ACT_NOTIFY"), "unsupported seccomp action 'SCMP_ACT_NOTIFY'"),
        (profile(defaultAction=None), "unsupported seccomp action None"),
        (profile({"names": ["read"], "action": "ALLOW"}), "unsupported seccomp action 'ALLOW'"),
        (profile(architectures=["SCMP_ARCH_PDP11"]), "unknown seccomp architecture 'SCMP_ARCH_PDP11'"),
        (profile(allow("socket", args=[{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}])), "invalid seccomp condition: argument 6"),
        (profile(allow("socket", args=[{"index": 0, "value": 1, "op": "=="}])), "operator '=='"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(OSError, match=text) as caught:
        compile_filter(wrong)
    assert caught.value.errno == errno.EINVAL


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(seccomp, "_libraries", [])
    monkeypatch.setattr("teul.linux.seccomp.ctypes.CDLL", absent)
    with pytest.raises(OSError, match=r"libseccomp.so.2 is not installed \(Debian package libseccomp2\)") as caught:
        compile_filter(profile())
    assert caught.value.errno == errno.ENOSYS


def test_flags() -> None:
    """Without the field the store bypass mitigation is left off, with an empty one it is not, as in runc."""
    assert filter_flags({}) == seccomp.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    assert filter_flags({"flags": []}) == 0
    assert filter_flags({"flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]}) == 3
    with pytest.raises(OSError, match="unknown seccomp flag 'X'"):
        filter_flags({"flags": ["X"]})


tokens = st.sampled_from([X86_64, X86, AARCH64, S390X, X32])


@settings(max_examples=300, derandomize=True)
@given(st.dictionaries(tokens, st.integers(0, 500)), st.sampled_from([X86_64, X86, AARCH64, S390X]), st.integers(0, 501), st.booleans())
def test_the_prologue_refuses_what_is_above_the_limit(limits: dict[int, int], architecture: int, number: int, is_x32: bool) -> None:
    highest = {token: limit | X32_BIT if token == X32 else limit for token, limit in limits.items()}
    is_x32 = is_x32 and architecture == X86_64
    token = X32 if is_x32 else architecture
    number |= X32_BIT if is_x32 else 0
    is_known_pair = token in highest and architecture in highest
    refused = is_known_pair and (number > highest[token] or (architecture == S390X and number == 0))
    answer = run(enosys_prologue(highest), number, architecture=architecture)
    assert answer == (MISSING if refused else FELL_THROUGH)


@pytest.mark.parametrize(
    ("profile", "calls", "expected"),
    [
        ({"defaultAction": "SCMP_ACT_ALLOW"}, LAST_CALLS, True),
        ({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["setsid", "ioctl"], "action": "SCMP_ACT_ALLOW"}]}, LAST_CALLS, False),
        ({"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_KILL"}]}, LAST_CALLS, False),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}, LAST_CALLS, True),
        (_clone_without(0x10000000), LAST_CALLS, True),
        (_clone_without(0x10000000), (("clone", (0x10000000,)),), False),
        (_clone_without(CLONE_PARENT), LAST_CALLS, False),
    ],
)
def test_what_a_filter_permits_is_known_without_installing_it(profile: dict[str, Any], calls: Any, *, expected: bool) -> None:
    assert seccomp.permits(seccomp.compile_filter(profile), calls) == expected


def test_dockers_profile_lets_a_process_fork_and_start_a_session() -> None:
    """Else every exec would take the road for filters that do not."""
    profile = resolve_profile(default_profile(), capabilities=frozenset(), architecture="amd64", kernel=(6, 1))
    assert profile is not None
    program = seccomp.compile_filter(profile)
    assert seccomp.permits(program, LAST_CALLS)
    assert not seccomp.permits(program, (("clone", (0x10000000,)),)), "a user namespace"
    assert not seccomp.permits(program, (("clone3", ()),))


@pytest.mark.parametrize(("machine", "architecture"), [("x86_64", X86_64), ("aarch64", AARCH64)])
def test_a_short_list_of_numbers_is_all_that_is_allowed(machine: str, architecture: int) -> None:
    program = allow_program(machine, [READ, 3, 200, OPENAT2])
    answers = {number: run(program, number, architecture=architecture) for number in range(600)}
    assert {number for number, answer in answers.items() if answer == ALLOW} == {READ, 3, 200, OPENAT2}
    assert {number for number, answer in answers.items() if answer == MISSING} == set(range(OPENAT2 + 1, 600))
    assert set(answers.values()) == {ALLOW, DENIED, MISSING}
    assert run(program, X32_BIT | READ, architecture=architecture) == MISSING
    assert run(program, READ, architecture=X86) == KILL_PROCESS


def test_no_list_can_be_made_for_an_unknown_machine() -> None:
    with pytest.raises(OSError, match="no seccomp filter can be made for the architecture riscv64") as caught:
        allow_program("riscv64", [1])
    assert caught.value.errno == errno.ENOSYS
