"""Dockerfiles as they are written: what is understood of them, and what is wrong and where."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.dockerfile.errors import DockerfileError, InstructionError, excerpt
from teul.dockerfile.lines import read_lines
from teul.dockerfile.parse import parse, parse_trigger
from teul.dockerfile.run_mounts import RunMount, parse_mount
from teul.dockerfile.syntax import Add, Arg, Cmd, Copy, Dockerfile, Entrypoint, Env, Expose, From, Instruction, Label, OnBuild, Pair, Run
from teul.dockerfile.words import expand
from teul.errors import InvalidParameter

FEATURES = """\
# syntax=docker/dockerfile:1
# escape=\\

# VERSION of the base
ARG VERSION=12
FROM --platform=$BUILDPLATFORM debian:${VERSION} AS Build
# a comment of its own
RUN apt-get update && \\
    # in the middle
    apt-get install -y \\

    gcc
RUN --mount=type=cache,target=/c --mount=type=secret,id=s --network=none ["make", "all"]
COPY --from=0 --chown=1:2 --chmod=u=rw --link --parents --exclude=*.o --exclude=b src/ ["x y"] /dst/
COPY <<one <<-"two" /etc/
of one $VERSION
one
\t\tof two
two
FROM build
ENV A=1 B="two words" C=three\\ words
ENV OLD some value
LABEL "a.b"="c d"
CMD ["sh", "-c", "x"]
ENTRYPOINT run me
EXPOSE 80 70/udp
ONBUILD RUN make
"""


def only(text: str) -> Instruction:
    return parse("FROM x\n" + text).stages[0].instructions[0]


def refusal(text: str) -> tuple[str, int, int]:
    with pytest.raises(DockerfileError) as caught:
        parse(text)
    return caught.value.reason, caught.value.first_line, caught.value.last_line


@pytest.fixture(scope="module")
def features() -> Dockerfile:
    return parse(FEATURES)


def test_directives_and_what_stands_before_the_first_stage(features: Dockerfile) -> None:
    assert features.directives == {"syntax": "docker/dockerfile:1", "escape": "\\"}
    assert [argument.pairs for argument in features.arguments] == [(Pair("VERSION", "12"),)]
    assert features.arguments[0].line.comments == ("VERSION of the base",)


def test_stages_have_names_and_numbers(features: Dockerfile) -> None:
    first, second = (stage.start for stage in features.stages)
    assert (first.base, first.name, first.platform) == ("debian:${VERSION}", "build", "$BUILDPLATFORM")
    assert (second.base, second.name) == ("build", "")
    assert (features.find("BUILD"), features.find("1"), features.find("2"), features.find("none")) == (0, 1, None, None)


def test_continued_lines_are_one(features: Dockerfile) -> None:
    run = features.stages[0].instructions[0]
    assert isinstance(run, Run)
    assert run.command.words == ("apt-get update &&     apt-get install -y     gcc",)
    assert run.command.shell
    assert (run.line.first_line, run.line.last_line) == (8, 12)
    assert run.line.comments == ("a comment of its own",)
    assert features.empty_continuations == [12]


def test_flags(features: Dockerfile) -> None:
    run, copy = features.stages[0].instructions[1:3]
    assert isinstance(run, Run)
    assert (run.mounts, run.network, run.security) == (("type=cache,target=/c", "type=secret,id=s"), "none", "sandbox")
    assert (run.command.words, run.command.shell) == (("make", "all"), False)
    assert isinstance(copy, Copy)
    assert (copy.sources, copy.target, copy.origin) == (("src/", '["x', 'y"]'), "/dst/", "0")
    assert (copy.chown, copy.chmod, copy.link, copy.parents, copy.exclude) == ("1:2", "u=rw", True, True, ("*.o", "b"))


def test_heredocs_are_files(features: Dockerfile) -> None:
    copy = features.stages[0].instructions[3]
    assert isinstance(copy, Copy)
    assert [(each.name, each.text, each.expands) for each in copy.contents] == [
        ("one", "of one $VERSION\n", True),
        ("two", "of two\n", False),
    ]
    assert (copy.line.first_line, copy.line.last_line) == (15, 19)


def test_what_changes_the_config_only(features: Dockerfile) -> None:
    env, old, label, cmd, entrypoint, expose, on_build = features.stages[1].instructions
    assert isinstance(env, Env)
    assert env.pairs == (Pair("A", "1"), Pair("B", '"two words"'), Pair("C", "three\\ words"))
    assert isinstance(old, Env)
    assert old.pairs == (Pair("OLD", "some value", is_legacy=True),)
    assert isinstance(label, Label)
    assert label.pairs == (Pair('"a.b"', '"c d"'),)
    assert isinstance(cmd, Cmd)
    assert (cmd.command.words, cmd.command.shell) == (("sh", "-c", "x"), False)
    assert isinstance(entrypoint, Entrypoint)
    assert (entrypoint.command.words, entrypoint.command.shell) == (("run me",), True)
    assert isinstance(expose, Expose)
    assert expose.ports == ("70/udp", "80")
    assert isinstance(on_build, OnBuild)
    assert on_build.expression == "RUN make"


def test_the_other_escape_character() -> None:
    found = parse("# escape=`\nFROM x\nRUN dir c:\\ `\n  /b\nENV A=b` c")
    run, env = found.stages[0].instructions
    assert isinstance(run, Run)
    assert run.command.words == ("dir c:\\   /b",)
    assert isinstance(env, Env)
    assert expand(env.pairs[0].value or "", {}, escape="`") == "b c"


def test_directives_end_with_the_first_line_that_is_none() -> None:
    assert parse("# a comment\n# escape=`\nFROM x").escape == "\\"
    assert parse("# nosuch=1\n# escape=`\nFROM x").escape == "\\"
    assert parse("\ufeff# escape = ` \nFROM x").escape == "`"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("RUN <<EOF\na\nEOF", ["EOF"]),
        ("RUN 3<<-EOF cat\n\tEOF", ["EOF"]),
        ("RUN cat << EOF\nEOF", ["EOF"]),
        ("RUN <<A <<B\nA\nB", ["A", "B"]),
        ("RUN echo '<<EOF'", []),
        ("RUN echo \\<<EOF\nEOF", []),
        ("RUN cat <<<EOF", []),
        ("RUN echo $((1<<2))", []),
        ("RUN it's <<EOF", []),
        ('RUN ["<<EOF"]', []),
        ("ONBUILD RUN <<EOF\nx\nEOF", ["EOF"]),
        ("CMD cat <<EOF", []),
    ],
)
def test_where_heredocs_are(text: str, names: list[str]) -> None:
    assert [heredoc.name for heredoc in read_lines(text).lines[0].heredocs] == names


def test_a_triggers_heredoc_is_kept_with_it() -> None:
    on_build = only("ONBUILD RUN <<EOF\nx\nEOF")
    assert isinstance(on_build, OnBuild)
    assert on_build.expression == "RUN <<EOF\nx\nEOF"
    run = parse_trigger(on_build.expression)
    assert isinstance(run, Run)
    assert run.command.heredocs[0].content == "x\n"


def test_add() -> None:
    add = only("ADD --checksum=sha256:1 --keep-git-dir=false --unpack a b /c")
    assert isinstance(add, Add)
    assert (add.checksum, add.keep_git_dir, add.unpack, add.sources) == ("sha256:1", False, True, ("a", "b"))


def test_several_arguments_at_once() -> None:
    arg = only('ARG A B= C="x y"')
    assert isinstance(arg, Arg)
    assert arg.pairs == (Pair("A", None), Pair("B", ""), Pair("C", '"x y"'))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("file with no instructions", 0, 0)),
        ("# only\n\n", ("file with no instructions", 2, 2)),
        ("FROM x\nFRON y", ("unknown instruction: FRON (did you mean FROM?)", 2, 2)),
        ("FROM x\nruns y", ("unknown instruction: runs (did you mean run?)", 2, 2)),
        ("FROM x\nNONSENSE y", ("unknown instruction: NONSENSE", 2, 2)),
        ("RUN x", ("no build stage in current context", 1, 1)),
        ("ARG A", ("dockerfile contains no stages to build", 1, 1)),
        ("FROM", ("FROM requires either one or three arguments", 1, 1)),
        ("FROM a AS 1b", ('invalid name for build stage: "1b", name can\'t start with a number or contain symbols', 1, 1)),
        ("FROM --x=1 a", ("unknown flag: --x", 1, 1)),
        ("FROM --platfrom=1 a", ("unknown flag: --platfrom (did you mean platform?)", 1, 1)),
        ("FROM --platform a", ("missing a value on flag: --platform", 1, 1)),
        ("# escape=x\nFROM a", ("invalid escape token 'x' does not match ` or \\", 1, 1)),
        ("# escape=`\n# ESCAPE=`\nFROM a", ("only one escape parser directive can be used", 2, 2)),
        ("FROM x\nRUN a \\\n b <<E\n", ("unterminated heredoc", 2, 3)),
        ("FROM x\nCOPY a", ("COPY requires at least two arguments, but only one was provided. Destination could not be determined", 2, 2)),
        ("FROM x\nCOPY a <<b\nb", ("COPY cannot accept a heredoc as a destination", 2, 3)),
        ("FROM x\nCOPY --link=maybe a b", ("expecting boolean value for flag --link, not: maybe", 2, 2)),
        ("FROM x\nCOPY --link= a b", ("missing a value on flag: --link", 2, 2)),
        ("FROM x\nCOPY --from=1 --from=2 a b", ("duplicate flag specified: --from", 2, 2)),
        ("FROM x\nRUN [1]", ("when using JSON array syntax, arrays must be comprised of strings only", 2, 2)),
        ("FROM x\nRUN --network=own y", ('invalid network mode "own"', 2, 2)),
        ("FROM x\nRUN --security=none y", ('security "none" is not valid', 2, 2)),
        ("FROM x\nRUN --mount=from=$A y", ("'from' doesn't support variable expansion, define alias stage instead", 2, 2)),
        ("FROM x\nSHELL sh -c", ("SHELL requires the arguments to be in JSON form: SHELL sh -c", 2, 2)),
        ("FROM x\nSHELL []", ("SHELL requires at least one argument", 2, 2)),
        ("FROM x\nENV A=1 B", ('Syntax error - can\'t find = in "B". Must be of the form: name=value', 2, 2)),
        ("FROM x\nARG =1", ("ARG names can not be blank", 2, 2)),
        ("FROM x\nONBUILD FROM y", ("FROM isn't allowed as an ONBUILD trigger", 2, 2)),
    ],
)
def test_what_is_wrong_and_where(text: str, expected: tuple[str, int, int]) -> None:
    assert refusal(text) == expected


def test_an_error_shows_its_lines() -> None:
    text = "FROM x\nRUN a\nFOO b\n\nRUN c\nRUN d\n"
    with pytest.raises(DockerfileError, match="dockerfile parse error on line 3: unknown instruction: FOO") as caught:
        parse(text)
    shown = excerpt(text, "Dockerfile", caught.value.first_line, caught.value.last_line)
    assert shown.splitlines() == [
        "Dockerfile:3",
        "--------------------",
        "   1 |     FROM x",
        "   2 |     RUN a",
        "   3 | >>> FOO b",
        "   4 |     ",
        "   5 |     RUN c",
        "--------------------",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/x", RunMount(target="/x")),
        ("type=cache,dst=$A,id=i,sharing=locked,mode=0750,uid=1,gid=2", RunMount("cache", "", "", "/a", False, id="i", sharing="locked", mode=0o750, uid=1, gid=2)),
        ("type=tmpfs,target=/t,size=1m", RunMount("tmpfs", target="/t", read_only=False, size_bytes=1 << 20)),
        ("type=secret,id=s,required,env=A", RunMount("secret", id="s", required=True, env="A")),
        ("type=bind,from=b,src=/s,target=/t,rw", RunMount("bind", "b", "/s", "/t", read_only=False)),
        ("type=bind,ro=false,target=/t", RunMount(target="/t", read_only=False)),
        ('type=bind,"target=/a,b"', RunMount(target="/a,b")),
    ],
)  # fmt: skip
def test_mounts(text: str, expected: RunMount) -> None:
    assert parse_mount(text, lambda value: expand(value, {"A": "/a"})) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=bnd", 'unsupported mount type "bnd" (did you mean bind?)'),
        ("type=bind,target", "invalid field 'target' must be a key=value pair"),
        ("type=bind,targett=/x", "unexpected key 'targett' in 'targett=/x' (did you mean target?)"),
        ("type=bind,size=1", "unexpected key 'size' for mount type 'bind'"),
        ("type=bind,required", "unexpected key 'required' for mount type 'bind'"),
        ("type=bind,ro=perhaps", "invalid value for ro: perhaps"),
        ("type=tmpfs,size=big", "invalid value for size: big"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=cache,uid=-1", "invalid value -1 for uid"),
        ("type=bind,uid=1", 'uid not allowed for "bind" type mounts'),
        ("type=cache,sharing=some", 'unsupported sharing value "some"'),
        ("type=bind,sharing=shared", "invalid cache sharing set for bind mount"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,src=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
    ],
)
def test_mounts_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(InstructionError) as caught:
        parse_mount(text, str)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A#a*/}", "b/c.tar.gz"),
        ("${A##*/}", "c.tar.gz"),
        ("${A%.*}", "a/b/c.tar"),
        ("${A%%.*}", "a/b/c"),
        ("${A#x}", "a/b/c.tar.gz"),
        ("${A/b/x}", "a/x/c.tar.gz"),
        ("${A//[\\/]/x}", "a/b/c.tar.gz"),
        ("${A//\\//-}", "a-b-c.tar.gz"),
        ("${A/a*c/x}", "x.tar.gz"),
        ("${A//?.t/x}", "a/b/xar.gz"),
        ("${A/t*/}", "a/b/c."),
        ("${NONE#x}", ""),
        ("${A/%\\*}", None),
        ("${A#\\x}", None),
        ("${A:#x}", None),
        ("${}", None),
        ("${A", None),
    ],
)
def test_patterns(text: str, expected: str | None) -> None:
    environment = {"A": "a/b/c.tar.gz"}
    if expected is None:
        with pytest.raises(InvalidParameter):
            expand(text, environment)
    else:
        assert expand(text, environment) == expected


def test_what_has_no_value_is_told_and_may_stay() -> None:
    missing: set[str] = set()
    assert expand("$A ${B} ${C:-d}", {"A": "a"}, missing=missing) == "a  d"
    assert missing == {"B", "C"}
    assert expand("$A ${B} ${C:-d}", {"A": "a"}, keep_unset=True) == "a ${B} ${C:-d}"


@given(st.text(alphabet="ab*?", min_size=1, max_size=6), st.text(alphabet="ab", max_size=12))
def test_patterns_are_the_shells(pattern: str, value: str) -> None:
    """Held against a definition that tries everything."""

    def matches(text: str) -> bool:
        return fnmatch.fnmatchcase(text, pattern)

    heads = [end for end in range(len(value) + 1) if matches(value[:end])]
    tails = [begin for begin in range(len(value) + 1) if matches(value[begin:])]
    environment = {"V": value}
    assert expand(f"${{V#{pattern}}}", environment) == (value[heads[0] :] if heads else value)
    assert expand(f"${{V%{pattern}}}", environment) == (value[: tails[-1]] if tails else value)
    assert expand(f"${{V%%{pattern}}}", environment) == (value[: tails[0]] if tails else value)
    spans = [(b, e) for b in range(len(value)) for e in range(len(value), b, -1) if matches(value[b:e])]
    if spans:
        begin = min(b for b, _ in spans)
        end = max(e for b, e in spans if b == begin)
        assert expand(f"${{V/{pattern}/-}}", environment) == value[:begin] + "-" + value[end:]
    else:
        assert expand(f"${{V/{pattern}/-}}", environment) == value


@given(st.text(alphabet="FROMRUNCOPY <-'\"\\$#={}[],:\n\tabEOF`/*", max_size=200))
def test_any_text_is_understood_or_refused(text: str) -> None:
    for candidate in (text, "FROM x\nRUN " + text, "FROM x\nCOPY " + text):
        try:
            found = parse(candidate)
        except InvalidParameter:
            continue
        assert isinstance(found.stages[0].start, From)
