"""The device filter program, run by a small interpreter against the rules read as plain sentences."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from teul.linux.bpf import DeviceRule, device_program, instruction

ACCESS = {"m": 1, "r": 2, "w": 4}
TYPES = {"b": 1, "c": 2}


def run(program: bytes, kind: str, major: int, minor: int, access: str) -> int:
    """Interpret the eBPF subset that a device filter uses; every jump must stay inside and go forward."""
    code = [struct.unpack_from("=BBhi", program, offset) for offset in range(0, len(program), 8)]
    context = {0: sum(ACCESS[letter] for letter in access) << 16 | TYPES[kind], 4: major, 8: minor}
    registers: dict[int, int] = {1: -1}
    position = 0
    while True:
        opcode, byte, off, imm = code[position]
        dst, src = byte & 15, byte >> 4
        position += 1
        match opcode:
            case 0x61:
                assert registers[src] == -1, "loads go through the context pointer"
                registers[dst] = context[off]
            case 0xB7:
                registers[dst] = imm
            case 0xBF:
                registers[dst] = registers[src]
            case 0x57:
                registers[dst] &= imm & 0xFFFFFFFFFFFFFFFF
            case 0x77:
                registers[dst] >>= imm
            case 0x15 | 0x55:
                assert off >= 0
                if (registers[dst] == imm) == (opcode == 0x15):
                    position += off
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(f"unexpected opcode {opcode:#x}")


def allowed(rules: list[DeviceRule], kind: str, major: int, minor: int, access: str) -> bool:
    """The rules' meaning: each access alone, decided by the last rule that speaks of it; unspoken is refused."""

    def one(letter: str) -> bool:
        verdict = False
        for allow, rule_kind, rule_major, rule_minor, rule_access in rules:
            if rule_kind in {"a", kind} and rule_major in {None, major} and rule_minor in {None, minor} and letter in rule_access:
                verdict = allow
        return verdict

    return all(one(letter) for letter in access)


letters = st.sampled_from(["m", "r", "w", "rw", "rm", "wm", "rwm"])
numbers = st.sampled_from([0, 1, 3, 5, 0x7FFFFFFF])
rules_strategy = st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.none() | numbers, st.none() | numbers, letters), max_size=8)


@settings(max_examples=400, derandomize=True)
@given(rules_strategy, st.sampled_from("bc"), numbers, numbers, letters)
def test_the_program_decides_as_the_rules_say(rules: list[DeviceRule], kind: str, major: int, minor: int, access: str) -> None:
    assert run(device_program(rules), kind, major, minor, access) == allowed(rules, kind, major, minor, access)


def test_no_rules_refuse_everything() -> None:
    assert run(device_program([]), "c", 1, 3, "r") == 0


def test_nothing_follows_a_rule_that_decides_everything() -> None:
    """The verifier refuses a program with instructions that cannot be reached."""
    hidden: DeviceRule = (True, "c", 1, 3, "rwm")
    everything: DeviceRule = (False, "a", None, None, "rwm")
    assert device_program([hidden, everything]) == device_program([everything])
    assert device_program([everything])[-8:] == instruction(0x95)


def test_instructions_are_laid_out_as_the_kernel_reads_them() -> None:
    """struct bpf_insn: code, dst in the low and src in the high half of a byte, offset, immediate."""
    assert instruction(0x61, dst=2, src=1, off=4, imm=-1) == bytes([0x61, 0x12, 4, 0, 0xFF, 0xFF, 0xFF, 0xFF])
