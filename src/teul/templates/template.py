"""Go's `text/template`, as far as the users of `--format` use it: parse once, render any value.

Understood: fields and method-like fields with arguments, `$` and variables, pipelines and parentheses, comments and trimming, literals,
`if`/`else if`/`else`, `range` (with variables, `else`, `break`, `continue`), `with`, the builtin functions and docker's own. Not
understood: `define`, `template` and `block`. Pure. Errors are `TemplateError`; those that people meet are worded as Go words them.

The values are what JSON gives, and objects with a `template_field(name)` method.
"""

from __future__ import annotations

from teul.templates import functions
from teul.templates.functions import TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    Function = Callable[..., Any]

__all__ = ["Template", "TemplateError", "parse_template"]

_SPACE = " \t\r\n"


class Template:
    """A parsed template. `render` may be called any number of times."""

    def __init__(self, nodes: list[Node], functions_: Mapping[str, Function]) -> None:
        self._nodes = nodes
        self._functions = functions_

    def render(self, value: object, overrides: Mapping[str, Function] | None = None) -> str:
        """The text for `value`. `overrides` replace functions of the same name. Raises `TemplateError`."""
        names = {**self._functions, **overrides} if overrides else self._functions
        scope = _Scope(value, names)
        output: list[str] = []
        try:
            for node in self._nodes:
                node.run(scope, value, output)
        except RecursionError:
            raise TemplateError("template: exceeded maximum depth") from None
        return "".join(output)


def parse_template(text: str, extra: Mapping[str, Function] | None = None) -> Template:
    """Parse `text`; `extra` functions are known besides `FUNCTIONS`. Raises `TemplateError`."""
    known = {**functions.FUNCTIONS, **(extra or {})}
    try:
        nodes, _ = _Parser(_actions(text), known).block(())
    except RecursionError:
        raise TemplateError("template: :1: nested too deeply") from None
    return Template(nodes, known)


def _actions(text: str) -> Iterator[tuple[str, str]]:
    """The template as ("text", …) and ("action", …) pieces, with the trim markers obeyed and comments left out."""
    position, trim = 0, False
    while True:
        start = text.find("{{", position)
        piece = text[position:] if start < 0 else text[position:start]
        piece = piece.lstrip(_SPACE) if trim else piece
        if start < 0:
            yield "text", piece
            return
        body_start = start + 2
        if text[body_start : body_start + 1] == "-" and text[body_start + 1 : body_start + 2] in tuple(_SPACE):
            piece, body_start = piece.rstrip(_SPACE), body_start + 1
        yield "text", piece
        end = _action_end(text, body_start)
        body, position = text[body_start:end], end + 2
        trim = body.endswith("-") and body[-2:-1] in tuple(_SPACE)
        body = (body[:-1] if trim else body).strip(_SPACE)
        if not (body.startswith("/*") and body.endswith("*/")):
            yield "action", body


def _action_end(text: str, position: int) -> int:
    """Where the action's `}}` is; a `}}` inside of quotes does not count."""
    quote = ""
    while position < len(text):
        character = text[position]
        if quote:
            if character == "\\" and quote != "`":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "\"'`":
            quote = character
        elif text.startswith("}}", position):
            return position
        position += 1
    raise TemplateError("template: :1: unterminated quoted string" if quote else "template: :1: unclosed action")


class _Scope:
    """Variables of the enclosing blocks; `$` is the value that the whole template was given."""

    def __init__(self, root: object, functions_: Mapping[str, Function]) -> None:
        self.functions = functions_
        self._levels: list[dict[str, object]] = [{"$": root}]

    def __enter__(self) -> None:
        self._levels.append({})

    def __exit__(self, *details: object) -> None:
        self._levels.pop()

    def declare(self, name: str, value: object) -> None:
        self._levels[-1][name] = value

    def assign(self, name: str, value: object) -> None:
        self._level(name)[name] = value

    def get(self, name: str) -> object:
        return self._level(name)[name]

    def _level(self, name: str) -> dict[str, object]:
        for level in reversed(self._levels):
            if name in level:
                return level
        raise TemplateError(f'template: :1: undefined variable "{name}"')


class Node:
    """Something that writes text."""

    def run(self, scope: _Scope, dot: object, output: list[str]) -> None:
        raise NotImplementedError


class _Text(Node):
    def __init__(self, text: str) -> None:
        self._text = text

    def run(self, scope: _Scope, dot: object, output: list[str]) -> None:  # noqa: ARG002 - text is the same for every value
        output.append(self._text)


class _Action(Node):
    def __init__(self, pipeline: _Pipeline) -> None:
        self._pipeline = pipeline

    def run(self, scope: _Scope, dot: object, output: list[str]) -> None:
        value = self._pipeline.evaluate(scope, dot)
        if not self._pipeline.variables:
            output.append(functions.printed(value))


class _Jump(Exception):
    """`break` or `continue` on its way to the loop."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class _Control(Node):
    def __init__(self, word: str) -> None:
        self._word = word

    def run(self, scope: _Scope, dot: object, output: list[str]) -> None:  # noqa: ARG002 - as every node
        raise _Jump(self._word)


class _Branch(Node):
    """`if` and `with`, which differ in what the dot is inside."""

    def __init__(self, pipeline: _Pipeline, then: list[Node], otherwise: list[Node], *, rebind: bool) -> None:
        self._pipeline = pipeline
        self._then = then
        self._otherwise = otherwise
        self._rebind = rebind

    def run(self, scope: _Scope, dot: object, output: list[str]) -> None:
        with scope:
            value = self._pipeline.evaluate(scope, dot)
            true = functions.truth(value)
            for node in self._then if true else self._otherwise:
                node.run(scope, value if self._rebind and true else dot, output)


class _Range(Node):
    def __init__(self, pipeline: _Pipeline, body: list[Node], otherwise: list[Node]) -> None:
        self._pipeline = pipeline
        self._body = body
        self._otherwise = otherwise

    def run(self, scope: _Scope, dot: object, output: list[str]) -> None:
        with scope:
            items = functions.pairs(self._pipeline.evaluate(scope, dot))
            if not items:
                for node in self._otherwise:
                    node.run(scope, dot, output)
            for index, item in items:
                try:
                    self._turn(scope, index, item, output)
                except _Jump as jump:
                    if jump.word == "break":
                        return

    def _turn(self, scope: _Scope, index: object, item: object, output: list[str]) -> None:
        variables = self._pipeline.variables
        with scope:
            if variables:
                scope.declare(variables[-1], item)
            if len(variables) == 2:
                scope.declare(variables[0], index)
            for node in self._body:
                node.run(scope, item, output)


class _Pipeline:
    """Commands, each result being the next command's last argument; perhaps declares or assigns variables."""

    def __init__(self, commands: list[_Command], variables: list[str], *, declares: bool) -> None:
        self._commands = commands
        self.variables = variables
        self._declares = declares

    def evaluate(self, scope: _Scope, dot: object) -> object:
        value: object = None
        for index, command in enumerate(self._commands):
            value = command.evaluate(scope, dot, [value] if index else [])
        if len(self.variables) == 1:
            (scope.declare if self._declares else scope.assign)(self.variables[0], value)
        return value


class _Command:
    def __init__(self, operands: list[_Operand]) -> None:
        self._operands = operands

    def evaluate(self, scope: _Scope, dot: object, piped: list[object]) -> object:
        first, *rest = self._operands
        if first.kind == "function" and first.text in ("and", "or"):
            return self._short_circuit(first.text, scope, dot, rest, piped)
        return first.call(scope, dot, rest, piped)

    @staticmethod
    def _short_circuit(word: str, scope: _Scope, dot: object, operands: list[_Operand], piped: list[object]) -> object:
        """`and` and `or` evaluate no more than they need (Go 1.18 and later)."""
        value: object = None
        thunks: list[Callable[[], object]] = [lambda operand=operand: operand.evaluate(scope, dot) for operand in operands]  # type: ignore[misc]
        for thunk in [*thunks, *(lambda value=value: value for value in piped)]:
            value = thunk()
            if functions.truth(value) == (word == "or"):
                return value
        return value


class _Operand:
    """A literal, the dot, a variable, a function or a parenthesised pipeline, each perhaps with fields behind it."""

    def __init__(self, kind: str, text: str, fields: list[str], *, value: object = None, pipeline: _Pipeline | None = None) -> None:
        self.kind = kind
        self.text = text
        self._fields = fields
        self._value = value
        self._pipeline = pipeline

    def evaluate(self, scope: _Scope, dot: object) -> object:
        return self.call(scope, dot, [], [])

    def call(self, scope: _Scope, dot: object, operands: list[_Operand], piped: list[object]) -> object:
        """The operand's value, with arguments for whatever can be called: a function, or the last field."""
        arguments = [operand.evaluate(scope, dot) for operand in operands] + piped
        if self.kind == "function":
            value, arguments = functions.call(self.text, scope.functions[self.text], arguments), []
        elif self.kind == "dot":
            value = dot
        elif self.kind == "variable":
            value = scope.get(self.text)
        elif self._pipeline is not None:
            value = self._pipeline.evaluate(scope, dot)
        else:
            value = self._value
        for name in self._fields:
            value = functions.field(value, name)
        if callable(value):
            return functions.call(self._fields[-1], value, arguments)
        if arguments:
            raise TemplateError(f"template: :1: can't give argument to non-function {self.text or self._fields[-1]}")
        return value


class _Parser:
    """Recursive descent over the actions."""

    def __init__(self, actions: Iterator[tuple[str, str]], known: Mapping[str, Function]) -> None:
        self._actions = actions
        self._known = known
        self._loops = 0

    def block(self, ends: tuple[str, ...]) -> tuple[list[Node], str]:
        """Nodes until an action that begins with one of the words `ends`, and its text. Without `ends`, until the end of the template."""
        nodes: list[Node] = []
        for kind, body in self._actions:
            if kind == "text":
                if body:
                    nodes.append(_Text(body))
                continue
            word = body.partition(" ")[0]
            if word in ("end", "else"):
                if word not in ends:
                    raise TemplateError(f"template: :1: unexpected {{{{{word}}}}}")
                return nodes, body
            nodes.append(self._node(word, body))
        if ends:
            raise TemplateError("template: :1: unexpected EOF")
        return nodes, ""

    def _node(self, word: str, body: str) -> Node:
        rest = body[len(word) :]
        if word in ("if", "with", "range"):
            return self._structure(word, rest)
        if word in ("break", "continue"):
            if not self._loops:
                raise TemplateError(f"template: :1: {{{{{word}}}}} outside {{{{range}}}}")
            return _Control(word)
        if word in ("define", "template", "block"):
            raise TemplateError(f"template: :1: {{{{{word}}}}} is not supported")
        return _Action(self._pipeline(body, word=""))

    def _structure(self, word: str, rest: str) -> Node:
        pipeline = self._pipeline(rest, word)
        self._loops += word == "range"
        then, end = self.block(("end", "else"))
        self._loops -= word == "range"
        otherwise: list[Node] = []
        if end != "end":
            chained = end[len("else") :].strip()
            if chained:
                # `else if …` is an `if` inside of the `else`, which shares its `end`.
                inner = chained.partition(" ")[0]
                otherwise = [self._structure(inner, chained[len(inner) :])]
            else:
                otherwise, _ = self.block(("end",))
        if word == "range":
            return _Range(pipeline, then, otherwise)
        return _Branch(pipeline, then, otherwise, rebind=word == "with")

    def _pipeline(self, text: str, word: str) -> _Pipeline:
        tokens = functions.tokenize(text)
        pipeline = self._pipeline_of(tokens)
        if tokens:
            raise TemplateError(f'template: :1: unexpected "{tokens[0][1]}" in {word or "command"}')
        return pipeline

    def _pipeline_of(self, tokens: list[tuple[str, str]]) -> _Pipeline:
        variables, declares = self._declaration(tokens)
        commands = [self._command(tokens)]
        while tokens and tokens[0][0] == "|":
            tokens.pop(0)
            commands.append(self._command(tokens))
        return _Pipeline(commands, variables, declares=declares)

    @staticmethod
    def _declaration(tokens: list[tuple[str, str]]) -> tuple[list[str], bool]:
        kinds = [kind for kind, _ in tokens[:4]]
        for count in (1, 2):
            if kinds[:count] and kinds[: 2 * count - 1] == ["variable", ",", "variable"][: 2 * count - 1]:
                operator = tokens[2 * count - 1][1] if len(tokens) > 2 * count - 1 else ""
                if operator in (":=", "="):
                    names = [tokens[index][1] for index in range(0, 2 * count - 1, 2)]
                    del tokens[: 2 * count]
                    return names, operator == ":="
        return [], False

    def _command(self, tokens: list[tuple[str, str]]) -> _Command:
        operands: list[_Operand] = []
        while tokens and tokens[0][0] not in ("|", ")"):
            operands.append(self._operand(tokens))
        if not operands:
            raise TemplateError("template: :1: missing value for command")
        return _Command(operands)

    def _operand(self, tokens: list[tuple[str, str]]) -> _Operand:
        kind, text = tokens.pop(0)
        if kind == "(":
            pipeline = self._pipeline_of(tokens)
            if not tokens or tokens.pop(0)[0] != ")":
                raise TemplateError("template: :1: unclosed left paren")
            return _Operand("pipeline", "", self._fields(tokens), pipeline=pipeline)
        if kind == "field":
            return _Operand("dot", "", [text, *self._fields(tokens)])
        if kind in ("dot", "variable"):
            return _Operand(kind, text, self._fields(tokens))
        if kind == "word":
            return self._word(text)
        if kind == "literal":
            return _Operand("literal", text, [], value=functions.literal(text))
        raise TemplateError(f'template: :1: unexpected "{text}" in operand')

    def _word(self, text: str) -> _Operand:
        constants = {"true": True, "false": False, "nil": None}
        if text in constants:
            return _Operand("literal", text, [], value=constants[text])
        if text not in self._known:
            raise TemplateError(f'template: :1: function "{text}" not defined')
        return _Operand("function", text, [])

    @staticmethod
    def _fields(tokens: list[tuple[str, str]]) -> list[str]:
        """The fields that follow an operand without a space."""
        names: list[str] = []
        while tokens and tokens[0][0] == "chained":
            names.append(tokens.pop(0)[1])
        return names
