"""`--change` instructions, with the effects and the texts of Docker's builder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.dockerfile.changes import apply_changes
from teul.dockerfile.words import expand, split_words
from teul.errors import InvalidParameter
from teul.oci.image_config import Healthcheck, ImageConfig

EMPTY = ImageConfig()
SH = ["/bin/sh", "-c"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], EMPTY),
        (["CMD echo hi"], ImageConfig(cmd=[*SH, "echo hi"])),
        (['CMD ["echo", "hi"]'], ImageConfig(cmd=["echo", "hi"])),
        (["CMD [echo]"], ImageConfig(cmd=[*SH, "[echo]"])),
        (["CMD []"], EMPTY),
        (["cmd   echo   hi"], ImageConfig(cmd=[*SH, "echo   hi"])),
        (["ENTRYPOINT top -b"], ImageConfig(entrypoint=[*SH, "top -b"])),
        (["CMD a", "ENTRYPOINT b"], ImageConfig(cmd=[*SH, "a"], entrypoint=[*SH, "b"])),
        (["ENV A=1 B=2", "ENV A=3"], ImageConfig(env=["A=3", "B=2"])),
        (["ENV A some words"], ImageConfig(env=["A=some words"])),
        (["ENV A=\"x y\" B=z\\ w C='$A'"], ImageConfig(env=["A=x y", "B=z w", "C=$A"])),
        (["ENV A=1", 'ENV B=$A C="${A}2" D=${X:-default} E=${A:+set}'], ImageConfig(env=["A=1", "B=1", "C=12", "D=default", "E=set"])),
        (["LABEL a=b c.d='e f'", "LABEL g h"], ImageConfig(labels={"a": "b", "c.d": "e f", "g": "h"})),
        (
            ["EXPOSE 80 53/udp 8000-8002/TCP"],
            ImageConfig(exposed_ports={f"{port}": {} for port in ("80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp")}),
        ),
        (["ENV P=99", "EXPOSE $P"], ImageConfig(env=["P=99"], exposed_ports={"99/tcp": {}})),
        (["USER 1:2"], ImageConfig(user="1:2")),
        (["VOLUME /a /b", 'VOLUME ["/c d"]'], ImageConfig(volumes={"/a": {}, "/b": {}, "/c d": {}})),
        (["WORKDIR /a/b", "WORKDIR c/../d"], ImageConfig(working_dir="/a/b/d")),
        (["WORKDIR relative"], ImageConfig(working_dir="/relative")),
        (["STOPSIGNAL SIGTERM"], ImageConfig(stop_signal="SIGTERM")),
        (["STOPSIGNAL 9"], ImageConfig(stop_signal="9")),
        (["STOPSIGNAL SIGRTMIN+3"], ImageConfig(stop_signal="SIGRTMIN+3")),
        (["ONBUILD RUN make", "ONBUILD copy . /"], ImageConfig(on_build=["RUN make", "copy . /"])),
        (["HEALTHCHECK NONE"], ImageConfig(healthcheck=Healthcheck(test=["NONE"]))),
        (
            ["HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl x"],
            ImageConfig(healthcheck=Healthcheck(test=["CMD-SHELL", "curl x"], interval_ns=90 * 10**9, timeout_ns=5 * 10**8, retries=3)),
        ),
        (['HEALTHCHECK --start-period=0 CMD ["a", "b"]'], ImageConfig(healthcheck=Healthcheck(test=["CMD", "a", "b"]))),
        (["# a comment\nUSER \\\n  someone\n\n"], ImageConfig(user="someone")),
    ],
)
def test_instructions(changes: list[str], expected: ImageConfig) -> None:
    assert apply_changes(EMPTY, changes) == expected


def test_an_inherited_command_goes_with_a_new_entrypoint() -> None:
    assert apply_changes(ImageConfig(cmd=["old"]), ['ENTRYPOINT ["e"]']) == ImageConfig(entrypoint=["e"])


def test_the_images_own_shell_runs_shell_forms() -> None:
    assert apply_changes(ImageConfig(shell=["/bin/bash", "-lc"]), ["CMD x"]).cmd == ["/bin/bash", "-lc", "x"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("RUN make", "RUN is not a valid change command"),
        ("from x", "from is not a valid change command"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", 'Syntax error - can\'t find = in "B". Must be of the form: name=value'),
        ("ENV =x", "ENV names can not be blank"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("EXPOSE http", "invalid containerPort: http"),
        ("EXPOSE 70000", "invalid containerPort: 70000"),
        ("EXPOSE 90-80", "invalid containerPort: 90-80"),
        ("EXPOSE 80/icmp", "invalid proto: icmp"),
        ("USER", "USER requires exactly one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("STOPSIGNAL SIGNONSENSE", "invalid signal: SIGNONSENSE"),
        ("STOPSIGNAL 0", "invalid signal: 0"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD onbuild RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK RUN x", 'Unknown type "RUN" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK --what=1 CMD x", "unknown flag: --what"),
        ("HEALTHCHECK --interval=soon CMD x", 'time: invalid duration "soon"'),
        ("HEALTHCHECK --interval=10us CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("ENV A='x", 'failed to process "\'x": unexpected end of statement while looking for matching single-quote'),
        ('ENV A="x', 'failed to process "\\"x": unexpected end of statement while looking for matching double-quote'),
        ("ENV A=${B", "failed to process \"${B\": syntax error: missing '}'"),
        ("ENV A=${B:-x", "failed to process \"${B:-x\": syntax error: missing '}'"),
        ("ENV A=${B:?}", 'failed to process "${B:?}": B: is not allowed to be unset'),
        ("ENV A=${B^}", 'failed to process "${B^}": unsupported modifier (^) in substitution'),
    ],
)
def test_what_cannot_be_applied_is_refused_with_dockers_words(change: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        apply_changes(EMPTY, [change])
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A", "1"),
        ("$AB", ""),
        ("${A}B", "1B"),
        ("$", "$"),
        ("a\\$A", "a$A"),
        ("'$A'", "$A"),
        ('"$A \\" \\n"', '1 " \\n'),
        ("${EMPTY-x}", ""),
        ("${EMPTY:-x}", "x"),
        ("${A+x}${U+y}", "x"),
        ("${A:?no}", "1"),
        ("${U-${A}}", "1"),
        ("x\\", "x"),
    ],
)
def test_words_are_expanded_as_a_shell_would(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "EMPTY": ""}) == expected


def test_words_are_cut_at_blanks_outside_of_quotes() -> None:
    assert split_words("a 'b c'  d\\ e \"f 'g\" ") == ["a", "'b c'", "d\\ e", '"f \'g"']


@given(st.text("ab=\"'\\$ {}:-+?\n", max_size=40))
def test_any_change_is_applied_or_refused(text: str) -> None:
    for instruction in ("ENV", "CMD", "VOLUME", "HEALTHCHECK", "ONBUILD", "EXPOSE", ""):
        try:
            apply_changes(EMPTY, [f"{instruction} {text}"])
        except InvalidParameter:
            continue
