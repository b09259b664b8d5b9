"""Options are read as pflag reads them, with pflag's refusals."""

from __future__ import annotations

import pytest

from teul.cli.errors import UsageError
from teul.cli.options.parser import BOOL, Option, Options, parse_options

TABLE = (
    Option("all", BOOL, "Everything", short="a"),
    Option("proxy", BOOL, "Proxy", default=True),
    Option("env", "list", "Variables", short="e"),
    Option("last", "int", "Number", short="n", default=-1),
    Option("memory", "bytes", "Limit", short="m"),
    Option("swap", "bytes or -1", "Limit"),
    Option("name", "string", "Name"),
    Option("network", "network", "Network"),
    Option("net", "network", "Network", target="network"),
    Option("filter", "filter", "Filter", short="f"),
    Option("weight", "uint16", "Weight"),
)


def parse(*arguments: str, interspersed: bool = True) -> tuple[Options, list[str]]:
    return parse_options(TABLE, arguments, interspersed=interspersed)


def test_defaults_and_what_was_given() -> None:
    options, rest = parse()
    assert (options.flag("all"), options.flag("proxy"), options.number("last"), options.text("name"), options.texts("env")) == (
        False,
        True,
        -1,
        "",
        [],
    )
    assert not options.given("name")
    assert rest == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["-a", "-e", "A=1", "-eB=2", "-n", "3"],
        ["-aeA=1", "-e=B=2", "-n3"],
        ["--all", "--env", "A=1", "--env=B=2", "--last=3"],
        ["--all=true", "-e=A=1", "-eB=2", "--last", "0x3"],
    ],
)
def test_all_spellings_of_the_same(arguments: list[str]) -> None:
    options, _ = parse(*arguments)
    assert options.flag("all")
    assert options.texts("env") == ["A=1", "B=2"]
    assert options.number("last") == 3


def test_flags_can_be_turned_off() -> None:
    options, _ = parse("--proxy=false", "-a=0")
    assert not options.flag("proxy")
    assert not options.flag("all")
    assert options.given("all")


def test_options_may_follow_arguments_unless_those_are_a_command() -> None:
    assert parse("x", "-a")[1] == ["x"]
    options, rest = parse("-n", "1", "image", "-a", "--", "b", interspersed=False)
    assert rest == ["image", "-a", "--", "b"]
    assert not options.flag("all")


def test_two_dashes_end_the_options_and_one_is_an_argument() -> None:
    assert parse("-", "--", "-a", "--x")[1] == ["-", "-a", "--x"]


def test_another_spelling_writes_into_its_target() -> None:
    assert parse("--net", "a", "--network", "b")[0].texts("network") == ["a", "b"]


def test_help_is_known_everywhere() -> None:
    assert parse("--help")[0].flag("help")
    assert parse("-h")[0].flag("help")
    own = (Option("host", "string", "Name", short="h"), Option("help", BOOL, "Print usage"))
    options, _ = parse_options(own, ["-h", "x"])
    assert options.text("host") == "x"
    assert not options.flag("help")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["--al"], "unknown flag: --al"),
        (["-z"], "unknown shorthand flag: 'z' in -z"),
        (["-az"], "unknown shorthand flag: 'z' in -az"),
        (["--name"], "flag needs an argument: --name"),
        (["-an"], "flag needs an argument: 'n' in -an"),
        (["---x"], "bad flag syntax: ---x"),
        (["--=x"], "bad flag syntax: --=x"),
        (["-n", "x"], 'invalid argument "x" for "-n, --last" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (["--all=maybe"], 'invalid argument "maybe" for "-a, --all" flag: strconv.ParseBool: parsing "maybe": invalid syntax'),
        (["-m", "x"], 'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\''),
        (["-m", "-1"], 'invalid argument "-1" for "-m, --memory" flag: invalid size: \'-1\''),
        (["-f", "x"], 'invalid argument "x" for "-f, --filter" flag: bad format of filter (expected name=value)'),
        (["--weight", "70000"], 'invalid argument "70000" for "--weight" flag: strconv.ParseUint: parsing "70000": value out of range'),
        (["--weight", "-1"], 'invalid argument "-1" for "--weight" flag: strconv.ParseUint: parsing "-1": invalid syntax'),
    ],
)
def test_refusals(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(*arguments)
    assert caught.value.message == message
    assert caught.value.status == 125


def test_swap_may_be_unlimited() -> None:
    assert parse("--swap", "-1")[0].number("swap") == -1
    assert parse("--swap=2k")[0].number("swap") == 2048
