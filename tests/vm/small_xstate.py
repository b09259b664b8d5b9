"""Executes a program whose ptrace(PTRACE_GETREGSET) fails, and that of its children: python small_xstate.py PROGRAM ARGUMENT…

User-mode Linux 6.1 keeps its processes' vector registers in a buffer of fixed size. On a processor with AMX the kernel's own are larger,
what it reads is cut off, and what it writes back is refused: it dies at its first process ("fatal_sigsegv" in put_fp_registers). If the first
request fails it takes the older one, which knows no vector registers (arch/x86/um/os-Linux/registers.c, arch_init_registers).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

# linux/prctl.h, linux/seccomp.h, linux/bpf_common.h, linux/ptrace.h
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO_EIO = 0x7FFF0000, 0x00050000 | 5
_NR_PTRACE, _PTRACE_GETREGSET = 101, 0x4204  # x86-64
_NR_OFFSET, _FIRST_ARGUMENT_OFFSET = 0, 16  # struct seccomp_data


def is_needed() -> bool:
    """Whether this processor's registers are larger than User-mode Linux knows them."""
    with open("/proc/cpuinfo", encoding="ascii") as file:
        return any(line.startswith("flags") and " amx_tile" in line for line in file)


def refuse_getregset() -> None:
    """From now on ptrace(PTRACE_GETREGSET) of this process and all it starts fails with EIO. Raises `OSError`."""
    program = [
        (_LOAD, 0, 0, _NR_OFFSET),
        (_JUMP_EQUAL, 0, 3, _NR_PTRACE),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_OFFSET),
        (_JUMP_EQUAL, 0, 1, _PTRACE_GETREGSET),
        (_RETURN, 0, 0, _ERRNO_EIO),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    fprog = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, fprog)):
        if libc.prctl(*arguments, 0, 0):
            number = ctypes.get_errno()
            raise OSError(number, f"prctl: {os.strerror(number)}")


if __name__ == "__main__":
    refuse_getregset()
    os.execv(sys.argv[1], sys.argv[1:])
