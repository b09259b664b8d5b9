"""Messages of syslog, as Docker's driver words them. docker: daemon/logger/syslog/syslog.go, srslog/formatter.go. Pure."""

from __future__ import annotations

import time

_ERROR, _INFORMATION = 3, 6
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Formatter:
    """For one log. `form` is "", rfc3164, rfc5424 or rfc5424micro; `counted` has each message begin with its length (RFC 5425)."""

    def __init__(self, form: str, *, facility: int, tag: str, hostname: str, pid: int, counted: bool) -> None:
        self._form = form
        self._facility = facility
        self._tag = tag
        self._hostname = hostname
        self._pid = pid
        self._counted = counted and form.startswith("rfc5424")

    def message(self, stream: int, time_ns: int, line: bytes) -> bytes:
        """One line of output (`stream` 1 or 2), without its newline. docker: what is written to stderr is an error, the rest is not."""
        priority = self._facility * 8 + (_ERROR if stream == 2 else _INFORMATION)
        whole = self._head(priority, time_ns).encode("utf-8", "surrogateescape") + line + b"\n"
        return b"%d %s" % (len(whole), whole) if self._counted else whole

    def _head(self, priority: int, time_ns: int) -> str:
        if not self._form.startswith("rfc5424"):
            host = f"{self._hostname} " if self._form else ""
            return f"<{priority}>{_stamp(time_ns)} {host}{self._tag}[{self._pid}]: "
        moment = format_local_time(time_ns, micro=self._form.endswith("micro"))
        return f"<{priority}>1 {moment} {self._hostname} {self._tag} {self._pid} {self._tag} - "


def _stamp(time_ns: int) -> str:
    """`Jan  2 15:04:05`, this machine's time."""
    t = time.localtime(time_ns // 1_000_000_000)
    return f"{_MONTHS[t.tm_mon - 1]} {t.tm_mday:2} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"


def format_local_time(time_ns: int, *, micro: bool = False) -> str:
    """RFC 3339 with this machine's offset from UTC."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    t = time.localtime(seconds)
    fraction = f".{nanoseconds // 1000:06}" if micro else ""
    minutes = t.tm_gmtoff // 60
    offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}" if minutes else "Z"
    return f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}T{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}{fraction}{offset}"
