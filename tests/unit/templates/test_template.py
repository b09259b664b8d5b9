"""Templates: what docker's documentation and users write, and Go's rules behind it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.templates.functions import HEADER_FUNCTIONS
from teul.templates.template import TemplateError, parse_template

VALUE = {
    "ID": "abc",
    "Labels": {"b": "2", "a": "1"},
    "Names": ["x", "y"],
    "State": {"Running": True, "Health": None, "Pid": 5},
    "Empty": [],
    "Size": 1.5,
    "Html": "<a & 'b'>",
}


def render(text: str, value: object = VALUE) -> str:
    return parse_template(text).render(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("{{.ID}}", "abc"),
        ("{{ .State.Pid }}", "5"),
        ("{{.State.Running}} {{.State.Health}} {{.Size}}", "true <nil> 1.5"),
        ("{{.Labels}} {{.Names}}", "map[a:1 b:2] [x y]"),
        ("{{json .Labels}}", '{"b":"2","a":"1"}'),
        ("{{json .Html}}", "\"<a & 'b'>\""),
        ("{{/* nothing */}}a{{- /* trimmed */ -}} b", "ab"),
        ("a {{- .ID -}} b", "aabcb"),
        ("a{{ .ID }} b", "aabc b"),
        ("{{`raw \\n`}}{{\"q\\n\\x41\\u00e9\"}}{{'a'}}", "raw \\nq\nAé97"),
        ('{{"}}"}}', "}}"),
        ("{{1}} {{-2}} {{0x10}} {{1.5}} {{true}}", "1 -2 16 1.5 true"),
        (
            "{{$}}",
            "map[Empty:[] Html:<a & 'b'> ID:abc Labels:map[a:1 b:2] Names:[x y] Size:1.5 State:map[Health:<nil> Pid:5 Running:true]]",
        ),
        ("{{$x := .ID}}{{$x}}{{$x = 1}}{{$x}}", "abc1"),
        ('{{if .Empty}}a{{else if eq .ID "abc"}}b{{else}}c{{end}}', "b"),
        ("{{if .Empty}}a{{else if .Empty}}b{{else}}c{{end}}", "c"),
        ("{{if .ID}}{{if .Empty}}x{{end}}y{{end}}", "y"),
        ("{{with .State}}{{.Pid}}{{$.ID}}{{end}}{{with .Empty}}x{{else}}none{{end}}", "5abcnone"),
        ("{{with $x := .ID}}{{$x}}{{end}}", "abc"),
        ("{{range .Names}}<{{.}}>{{end}}", "<x><y>"),
        ("{{range $i, $e := .Names}}{{if $i}},{{end}}{{$e}}{{end}}", "x,y"),
        ("{{range $e := .Names}}{{$e}}{{end}}", "xy"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "a=1 b=2 "),
        ("{{range .Empty}}x{{else}}none{{end}}{{range .State.Health}}x{{else}}none{{end}}", "nonenone"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ('{{range .Names}}{{if eq . "y"}}{{break}}{{end}}{{.}}{{end}}', "x"),
        ('{{range .Names}}{{if eq . "x"}}{{continue}}{{end}}{{.}}{{end}}', "y"),
        ('{{index .Names 1}} {{index .Labels "a"}}{{index .Labels "none"}} {{index .State "Pid"}} {{index "a" 0}}', "y 1 5 97"),
        ("{{(index .Names 0)}} {{(.State).Pid}} {{with .State}}{{.Pid}}{{end}}", "x 5 5"),
        ("{{len .Names}} {{len .ID}} {{len .Labels}}", "2 3 2"),
        ('{{.ID | upper | printf "%s-%d" "a"}}', "a-%!d(string=ABC)"),
        (
            '{{printf "%s %v %q %5d|%-5s|%05.1f %x %X %t %% %c" .ID 1 "a\\n" 7 "ab" 1.25 255 "hi" true 65}}',
            'abc 1 "a\\n"     7|ab   |001.2 ff 6869 true % A',
        ),
        ('{{printf "%d" }} {{printf "x" 1 2}} {{printf "%"}}', "%!d(MISSING) x%!(EXTRA int=1, int=2) %!(NOVERB)"),
        ('{{join .Names ","}} {{join .Labels ","}} {{join .State.Health ","}}', "x,y 1,2 "),
        ('{{split .ID "b"}} {{title .ID}} {{lower "A"}} {{pad .ID 1 2}}|{{pad "" 1 1}}|{{truncate .ID 2}}', "[a c] Abc a  abc  ||ab"),
        ("{{slice .ID 1}} {{slice .ID 0 2}} {{slice .Names 1}}", "bc ab [y]"),
        ("{{print .ID 1 2}} {{print 1 2}} {{println .ID 1}}", "abc1 2 1 2 abc 1\n"),
        ('{{html .Html}} {{js "a\\"b"}}', '&lt;a &amp; &#39;b&#39;&gt; a\\"b'),
        ("{{and .ID 1}} {{and .Empty 1}} {{or .Empty 2}} {{or .ID 2}} {{not .Empty}} {{and 1 2 0}}", "1 [] 2 abc true 0"),
        ("{{and .Empty (index .Names 9)}}", "[]"),
        ("{{.ID | and 1}} {{.Empty | or 3}}", "abc 3"),
        (
            '{{eq 1 2 1}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt "b" "a"}} {{ge 1 2}} {{eq .State.Health nil}} {{eq 1 true}}',
            "true true true true true false true false",
        ),
    ],
)
def test_templates(text: str, expected: str) -> None:
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{.ID", "unclosed action"),
        ('{{"a}}', "unterminated quoted string"),
        ("{{if .ID}}", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{nope .ID}}", 'function "nope" not defined'),
        ("{{}}", "missing value for command"),
        ("{{.ID |}}", "missing value for command"),
        ("{{(.ID}}", "unclosed left paren"),
        ("{{.ID)}}", 'unexpected ")"'),
        ("{{1a}}", "bad number syntax"),
        ("{{'ab'}}", "malformed character constant"),
        ('{{"\\q"}}', "invalid syntax in string"),
        ("{{.ID ; }}", "unexpected"),
        ("{{= 1}}", "unexpected"),
        ("{{break}}", "outside {{range}}"),
        ("{{range .Names}}{{else}}{{continue}}{{end}}", "outside {{range}}"),
        ("{{" + "(" * 3000 + "}}", "nested too deeply"),
        ('{{template "x"}}', "not supported"),
    ],
)
def test_malformed_templates(text: str, message: str) -> None:
    with pytest.raises(TemplateError, match=re.escape(message)):
        parse_template(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{.None}}", 'map has no entry for key "None"'),
        ("{{.ID.More}}", "can't evaluate field More in type string"),
        ("{{.State.Health.Status}}", "nil pointer evaluating"),
        ("{{.ID 1}}", "can't give argument to non-function"),
        ("{{index .Names 9}}", "index out of range"),
        ("{{index .State.Health 1}}", "index of untyped nil"),
        ("{{len 1}}", "len of type int"),
        ("{{len .State.Health}}", "len of nil pointer"),
        ("{{range .ID}}{{end}}", "range can't iterate"),
        ('{{lt 1 "a"}}', "incompatible types"),
        ("{{eq 1}}", "missing argument"),
        ('{{join .ID ","}}', "expected slice, got string"),
        ("{{upper 1}}", "error calling upper"),
        ("{{upper}}", "error calling upper"),
        ("{{slice .ID 9}}", "out of range"),
        ("{{$none}}", "undefined variable"),
    ],
)
def test_templates_that_do_not_fit_the_value(text: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        render(text)


class Thing:
    def template_field(self, name: str) -> object:
        return (lambda key: f"label {key}") if name == "Label" else f"field {name}"

    def template_json(self) -> str:
        return '{"thing":1}'


def test_objects_decide_about_their_fields() -> None:
    assert render('{{.Name}} {{.Label "a"}} {{json .}}', Thing()) == 'field Name label a {"thing":1}'


def test_functions_can_be_replaced_when_rendering() -> None:
    template = parse_template('{{upper .ID}} {{join .Names ","}} {{truncate .ID 1}}')
    names = {"ID": "Id", "Names": "NAMES"}
    assert template.render(names, HEADER_FUNCTIONS) == "Id NAMES Id"


def test_a_template_that_recurses_for_ever_ends() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(TemplateError, match="maximum depth"):
        render("{{.}}", value)


PIECES = st.lists(
    st.sampled_from(
        [
            "{{",
            "}}",
            ".ID",
            "if ",
            "range ",
            "end",
            "else",
            "with ",
            "$x",
            ":=",
            "|",
            "(",
            ")",
            '"a"',
            " ",
            "json",
            ".",
            "-",
            "1",
            "/*",
            "*/",
            "`",
        ]
    ),
    max_size=14,
).map("".join)


@given(PIECES | st.text(max_size=40))
def test_any_text_renders_or_is_refused(text: str) -> None:
    try:
        render(text)
    except TemplateError:
        return
