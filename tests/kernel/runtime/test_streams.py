"""Standard streams, terminals and the log: nothing is lost, nobody waits for somebody slower."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat

import pytest

from kernel.runtime.bare_containers import MEGABYTE, Bench, Spec, eventually, within
from support import processes
from support.needs import needs
from teul.runtime.engine.attachment import Attachment

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]

LOG = {"max_bytes": 0, "max_files": 1}


async def collect(attachment: Attachment) -> bytes:
    """Standard output to its end."""

    async def read() -> bytes:
        return b"".join([data async for stream, data in attachment if stream == 1])

    try:
        return await within(read(), "the end of the output")
    finally:
        await attachment.close()


# -- input


async def test_no_input_is_the_null_device(bench: Bench) -> None:
    ended = await bench.script("cat; readlink /proc/self/fd/0")
    assert ended.out == "/dev/null\n"


async def test_input_ends_with_its_first_client(bench: Bench) -> None:
    """`StdinOnce`: the half-close of `echo x | docker run -i`; the output goes on."""
    running = await bench.start("sh", "-c", "cat; echo after; sleep 0.1; echo end", stdin="once")
    await running.write("typed\n")
    assert running.attachment is not None
    await running.attachment.close_stdin()
    assert (await running.ended()).out == "typed\nafter\nend\n"


async def test_input_ends_when_its_client_leaves(bench: Bench) -> None:
    """Not only by a half-close: `docker run -i` that is killed."""
    running = await bench.start("sh", "-c", "cat > /got; echo done >> /got; sleep 1000", stdin="once")
    await running.write("typed\n")
    assert running.attachment is not None
    await running.attachment.close()
    await eventually(
        lambda: (running.root / "got").exists() and (running.root / "got").read_text() == "typed\ndone\n", "the input has ended"
    )
    running.attachment = None


async def test_open_input_outlives_its_clients(bench: Bench) -> None:
    """Without `StdinOnce` the next client types on."""
    running = await bench.start("sh", "-c", "while read line; do echo got $line; done", stdin="open")
    await running.write("first\n")
    await running.read_until("got first")
    assert running.attachment is not None
    await running.attachment.close_stdin()
    await running.attachment.close()
    running.attachment = await running.attach(stdin=True)
    await running.write("second\n")
    await running.read_until("got second")
    running.process.signal(9)
    await running.ended()


async def test_two_clients_type_into_one_input(bench: Bench) -> None:
    running = await bench.start("sh", "-c", "read a; read b; echo $a $b", stdin="open")
    second = await running.attach(stdin=True)
    await running.write("one\n")
    await second.write(b"two\n")
    assert sorted((await running.ended()).out.split()) == ["one", "two"]
    await second.close()


async def test_client_without_input_cannot_type(bench: Bench) -> None:
    running = await bench.start("sh", "-c", "read line; echo $line", stdin="open")
    reader = await running.attach(stdin=False)
    await reader.write(b"smuggled\n")
    await running.write("typed\n")
    assert (await running.ended()).out == "typed\n"
    await reader.close()


async def test_input_larger_than_every_buffer_arrives_whole(bench: Bench) -> None:
    """A reader that starts late makes the writer wait, and nothing is lost or changed."""
    data = bytes(range(256)) * (3 * MEGABYTE // 256)
    running = await bench.start("sh", "-c", "sleep 0.2; sha256sum", stdin="once")
    assert running.attachment is not None
    writing = asyncio.ensure_future(running.attachment.write(data))
    await asyncio.sleep(0.05)
    assert not writing.done(), "3 MB went nowhere: the input is not held back"
    await within(writing, "room for the input")
    await running.attachment.close_stdin()
    assert (await running.ended()).out.split()[0] == hashlib.sha256(data).hexdigest()


async def test_input_goes_through_to_a_program_that_answers(bench: Bench) -> None:
    """Both directions full at once: neither waits for the other for ever."""
    data = b"0123456789abcdef" * (2 * MEGABYTE // 16)
    running = await bench.start("cat", stdin="once")
    attachment = running.attachment
    assert attachment is not None

    async def write() -> None:
        await attachment.write(data)
        await attachment.close_stdin()

    writing = asyncio.ensure_future(write())
    await running.read_all()
    await within(writing)
    assert bytes(running.out) == data


async def test_output_is_whole_although_the_input_is_not_wanted(bench: Bench) -> None:
    """`cat big | docker run -i busybox head`: the client still writes when the process, and its monitor, have ended."""
    running = await bench.start("sh", "-c", "yes output | head -c 150000; exit 5", stdin="once")
    attachment = running.attachment
    assert attachment is not None
    await within(asyncio.shield(running.process.exit), "the end")
    for _ in range(200):
        await within(attachment.write(b"x" * 32_768))
        await asyncio.sleep(0)
    await attachment.close_stdin()
    await running.read_all()
    assert len(running.out) == 150_000
    assert (await running.ended()).code == 5


async def test_input_that_closes_early_does_not_stall(bench: Bench) -> None:
    """The process closes its input and goes on: what comes is dropped."""
    running = await bench.start("sh", "-c", "exec 0</dev/null; echo closed; sleep 0.2; echo end", stdin="once")
    await running.read_until("closed")
    await running.write("x" * 2 * MEGABYTE)
    assert (await running.ended()).out == "closed\nend\n"


# -- output


async def test_attachment_made_before_the_start_sees_the_first_byte(bench: Bench) -> None:
    """However fast the process ends: `docker run busybox echo`."""
    for number in range(10):
        ended = await bench.run("echo", str(number))
        assert ended.out == f"{number}\n"


async def test_streams_are_kept_apart(bench: Bench) -> None:
    ended = await bench.script("echo out; echo err >&2; echo out2; echo err2 >&2")
    assert (ended.out, ended.err) == ("out\nout2\n", "err\nerr2\n")


async def test_attaching_is_possible_as_soon_as_the_start_is_known(bench: Bench) -> None:
    """Whoever is told that it runs may connect at once."""
    for _ in range(10):
        running = await bench.start("cat", stdin="open", attach=False)
        attachment = await running.attach(stdin=True)
        await attachment.write(b"x\n")
        assert await within(anext(aiter(attachment))) == (1, b"x\n")
        await attachment.close()
        await running.kill()


async def test_slow_reader_loses_nothing_and_holds_up_nobody(bench: Bench) -> None:
    """5 MB with one client that does not read until the end, one that does, and a log: all three have every byte."""
    size = 5 * MEGABYTE
    running = await bench.start("sh", "-c", f"read go; yes 'a line of output' | head -c {size}", stdin="open", log=LOG)
    slow = running.attachment
    assert slow is not None
    fast = await running.attach(stdin=True)
    await fast.write(b"go\n")
    fast_data = await collect(fast)
    # The process has ended for everybody but the slow reader, who has not begun.
    record = await within(asyncio.shield(running.process.exit), "the end")
    assert record.exit_code == 0
    slow_data = await collect(slow)
    running.attachment = None
    expected = (b"a line of output\n" * (size // 17 + 1))[:size]
    assert fast_data == expected
    assert slow_data == expected
    assert "".join(entry["log"] for entry in running.log_lines()).encode() == expected


async def test_reader_that_never_reads_does_not_stall_the_process(bench: Bench) -> None:
    """What it does not take waits in a file without a name, which goes with it."""
    running = await bench.start("sh", "-c", f"yes | head -c {2 * MEGABYTE}; echo; echo finished >&2; sleep 1000", log=LOG)
    sleeper = await running.attach()
    await eventually(lambda: "finished" in running.log.read_text()[-200:], "the log has the end")
    assert [path.name for path in running.directory.iterdir() if path.name not in {"upper", "work", "rootfs"}].count("log.json") == 1
    await sleeper.close()
    await running.kill()


async def test_reader_that_never_reads_is_given_up_before_it_fills_the_disk(bench: Bench) -> None:
    """The process and the other reader wait for it a little, and then no more."""
    megabyte = f"yes | head -c {MEGABYTE}; sleep 0.01"  # slowly enough for the one that reads
    running = await bench.start("sh", "-c", f"i=0; while [ $i -lt 100 ]; do i=$((i+1)); {megabyte}; done; echo finished >&2; sleep 1000")
    sleeper = await running.attach()
    reader = running.attachment
    assert reader is not None
    most = received = 0
    async for stream, data in reader:
        if received // MEGABYTE != (received := received + len(data)) // MEGABYTE:
            most = max(most, _waiting_bytes(bench.supervisor.keeper_pid))
        if stream == 2 and b"finished" in data:
            break
    assert received >= 100 * MEGABYTE
    assert MEGABYTE < most <= 34 * MEGABYTE
    assert _waiting_bytes(bench.supervisor.keeper_pid) == 0, "what waited is gone with its reader"
    assert len(await collect(sleeper)) < 36 * MEGABYTE, "its stream has ended"
    assert not running.process.exit.done()
    await running.kill()


async def test_slow_reader_has_the_process_wait_and_gets_everything(bench: Bench) -> None:
    """More than is ever kept for it: as with `docker run IMAGE tar c / | gzip`."""
    size = 100 * MEGABYTE
    running = await bench.start("sh", "-c", f"head -c {size} /dev/zero")
    reader = running.attachment
    assert reader is not None
    await eventually(lambda: _waiting_bytes(bench.supervisor.keeper_pid) > 31 * MEGABYTE, "much waits for the reader")
    received = 0
    async for _stream, data in reader:
        received += len(data)
    assert received == size
    assert (await within(asyncio.shield(running.process.exit), "the end")).exit_code == 0
    await reader.close()
    running.attachment = None


def _waiting_bytes(keeper_pid: int) -> int:
    """What the files without a name take of the disk."""
    total = 0
    for name in os.listdir(f"/proc/{keeper_pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(f"/proc/{keeper_pid}/fd/{name}")
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                total += status.st_blocks * 512
    return total


async def test_output_of_a_child_that_outlives_an_exec_is_not_waited_for(bench: Bench) -> None:
    """An exec is over when its process is; docker does the same."""
    container = await bench.start("sleep", "1000")
    ended = await (await container.exec("sh", "-c", "sleep 1000 & echo said; exit 3")).ended()
    assert (ended.out, ended.code) == ("said\n", 3)


# -- the log


async def test_log_has_every_line_with_stream_and_time(bench: Bench) -> None:
    """Also what has no newline at its end, and what is no UTF-8."""
    running = await bench.start(
        "sh", "-c", r"echo one; echo two >&2; printf 'bad \377 byte\n'; printf rest", log={**LOG, "attrs": '{"a":"b"}'}
    )
    await running.ended()
    lines = running.log_lines()
    by_stream = {name: [entry["log"] for entry in lines if entry["stream"] == name] for name in ("stdout", "stderr")}
    assert by_stream == {"stdout": ["one\n", "bad \ufffd byte\n", "rest"], "stderr": ["two\n"]}
    assert all(entry["time"].endswith("Z") and entry["attrs"] == {"a": "b"} for entry in lines)


async def test_log_rotates_by_size_and_keeps_so_many_files(bench: Bench) -> None:
    """The newest lines are in the file itself, older ones in `.1` and so on; none is missing between them."""
    running = await bench.start("seq", "20000", log={"max_bytes": 200_000, "max_files": 3})
    await running.ended()
    assert sorted(path.name for path in running.directory.glob("log.json*")) == ["log.json", "log.json.1", "log.json.2"]
    # docker: a file is closed by the line that fills it.
    assert all(path.stat().st_size < 200_000 + 100 for path in running.directory.glob("log.json*"))
    numbers = [int(entry["log"]) for rotated in (2, 1, 0) for entry in running.log_lines(rotated=rotated)]
    assert numbers == list(range(numbers[0], 20_001))
    assert numbers[0] > 1


async def test_container_without_a_log_leaves_none(bench: Bench) -> None:
    running = await bench.start("echo", "x")
    await running.ended()
    assert not running.log.exists()


async def test_container_is_not_started_when_its_log_cannot_be_opened(bench: Bench) -> None:
    """It would run unheard."""
    from teul.runtime.engine.process import StartError

    with pytest.raises(StartError, match="no/such/directory"):
        await bench.start("touch", "/ran", log={**LOG, "path": f"{bench.base}/no/such/directory/log"})
    assert bench.remains() == []


# -- terminals


async def test_terminal_is_the_containers_own(bench: Bench) -> None:
    """Its name exists inside; it controls the session; /dev/console is it; its size is what was asked."""
    script = "tty; stty size; ls -l /dev/console | cut -c1; cat /proc/self/stat | cut -d' ' -f7; [ -t 0 -a -t 1 -a -t 2 ] && echo three; echo c > /dev/console; echo t > /dev/tty"
    ended = await bench.script(script, tty=True, size=(31, 91))
    lines = ended.out.split("\r\n")
    assert lines[:3] == ["/dev/pts/0", "31 91", "c"]
    assert int(lines[3]) != 0, "no controlling terminal"
    assert lines[4:] == ["three", "c", "t", ""]
    assert ended.err == ""


async def test_terminal_echoes_and_turns_control_c_into_an_interrupt(bench: Bench) -> None:
    running = await bench.start(
        "sh", "-c", "trap 'echo stopped; exit 6' INT; read x; echo got $x; while :; do sleep 0.05; done", tty=True, stdin="open"
    )
    await running.write("hello\n")
    await running.read_until("got hello")
    assert running.out.startswith(b"hello\r\n")
    await running.write("\x03")
    await running.read_until("stopped")
    assert (await running.ended()).code == 6


async def test_resize_reaches_the_program(bench: Bench) -> None:
    """SIGWINCH, and the new size is there when it comes."""
    running = await bench.start(
        "sh", "-c", "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done", tty=True, stdin="open", size=(24, 80)
    )
    await running.read_until("ready")
    running.process.resize(40, 120)
    await running.read_until("40 120")


async def test_user_of_the_terminal_owns_it(bench: Bench) -> None:
    """Else a program of another user could not open /dev/tty's device again."""

    def change(spec: Spec) -> None:
        spec["teul"]["user"] = "judge"

    ended = await bench.script("stat -c '%u %a' $(tty); echo again > $(tty)", tty=True, change=change)
    assert ended.out.split("\r\n") == ["1234 620", "again", ""]


async def test_user_of_pipes_may_open_them_again(bench: Bench) -> None:
    """`/dev/stdout` and `/dev/stderr` of a program that does not run as root (nginx's logs)."""

    def change(spec: Spec) -> None:
        spec["teul"]["user"] = "judge"

    ended = await bench.script("echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin", change=change)
    assert (ended.out, ended.err, ended.code) == ("out\n", "err\n", 0)


async def test_input_of_a_terminal_stays_open(bench: Bench) -> None:
    """A terminal has no half-close: its client types an end of file, or hangs up."""
    running = await bench.start("sh", "-c", "cat; echo after", tty=True, stdin="once")
    assert running.attachment is not None
    await running.attachment.close_stdin()
    await running.write("x\n\x04")
    await running.read_until("after")
    assert (await running.ended()).code == 0


async def test_keeper_stays_small_however_much_passes_through(bench: Bench) -> None:
    """What a slow reader leaves waiting is on disk, not in memory."""
    keeper = bench.supervisor.keeper_pid
    before = processes.proportional_set_bytes(keeper)
    running = await bench.start("sh", "-c", f"yes | head -c {24 * MEGABYTE}; echo finished >&2; sleep 1000")
    waiting = await running.attach()
    reader = running.attachment
    assert reader is not None
    async for stream, data in reader:
        if stream == 2 and b"finished" in data:
            break
    assert processes.proportional_set_bytes(keeper) - before < 3 * MEGABYTE
    await waiting.close()
