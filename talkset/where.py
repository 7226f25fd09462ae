"""The small filter language of `open_dataset(where=...)`: text to a pyarrow expression, never evaluated as code.

    nme_mean < 0.02 and speaker == 's1'
    status != 'failed' and (reason in ('too_short', 'no_face') or 0.5 <= valid_ratio < 1)
    transcript != None and not has_audio

As in SQL, a comparison with an absent value is neither true nor false, and only rows where the whole is true pass;
`== None` and `!= None` ask whether a value is absent.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

_COMPARE: Final[dict[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}
_HELP: Final = "use column names, numbers, 'text', True, False, None, comparisons, in, and, or, not, parentheses"
_NUMBER: Final = "number"


class WhereError(ValueError):
    """A filter that cannot be used: what is wrong, where, and what is possible."""


def parse_where(text: str, schema: pa.Schema, hint: str = "") -> tuple[Any, frozenset[str]]:
    """The pyarrow expression of a filter over the columns of `schema`, and the names of the columns that it uses.

    `hint` is added to an error about an unknown column.

    Raises WhereError (a ValueError) for syntax, unknown columns (with a suggestion) and comparisons between kinds.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise WhereError(f"where {text!r} cannot be read ({error}); {_HELP}") from error
    parser = _Parser(text, schema, hint)
    try:
        expression = parser.condition(tree)
    except RecursionError as error:
        raise WhereError(f"where {text[:80]!r}... is nested too deeply") from error
    return expression, frozenset(parser.used)


def unknown_column(name: str, known: Sequence[str]) -> str:
    """The text of an error about an unknown column, with the closest known one."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown column {name!r}; " + (f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}")


class _Parser:
    def __init__(self, text: str, schema: pa.Schema, hint: str) -> None:
        self.text = text
        self.hint = hint
        self.schema = schema
        self.used: set[str] = set()

    def fail(self, node: ast.AST, message: str) -> WhereError:
        part = ast.get_source_segment(self.text.strip(), node) or self.text
        return WhereError(f"where {self.text!r}: {part!r} {message}")

    def condition(self, node: ast.expr) -> Any:
        """An expression that is true, false or unknown."""
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(value) for value in node.values]
            if isinstance(node.op, ast.And):
                return reduce(lambda a, b: a & b, parts)
            return reduce(lambda a, b: a | b, parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Compare):
            lefts = [node.left, *node.comparators[:-1]]
            pairs = zip(lefts, node.ops, node.comparators, strict=True)
            return reduce(lambda a, b: a & b, [self.comparison(*pair) for pair in pairs])
        if isinstance(node, ast.Name):
            value, kind = self.operand(node)
            if kind == "bool":
                return value
            raise self.fail(node, "is not true or false; compare it with something")
        raise self.fail(node, f"is not possible in a filter; {_HELP}")

    def comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, (ast.In, ast.NotIn)):
            found = self.membership(left, right)
            return ~found if isinstance(op, ast.NotIn) else found
        if isinstance(op, (ast.Is, ast.IsNot)):
            op = ast.Eq() if isinstance(op, ast.Is) else ast.NotEq()
            if not any(isinstance(side, ast.Constant) and side.value is None for side in (left, right)):
                raise self.fail(right, "cannot follow 'is'; write ==")
        for side, other in ((left, right), (right, left)):
            if isinstance(side, ast.Constant) and side.value is None:
                if not isinstance(op, (ast.Eq, ast.NotEq)) or not isinstance(other, ast.Name):
                    raise self.fail(side, "can only be compared with a column by == or !=")
                value, _ = self.operand(other)
                return value.is_null() if isinstance(op, ast.Eq) else value.is_valid()
        a, kind_a = self.operand(left)
        b, kind_b = self.operand(right)
        if kind_a != kind_b:
            raise self.fail(right, f"is {kind_b}, but it is compared with {kind_a}")
        if not (isinstance(left, ast.Name) or isinstance(right, ast.Name)):
            raise self.fail(left, "is compared without a column")
        return _COMPARE[type(op)](a, b)

    def membership(self, left: ast.expr, right: ast.expr) -> Any:
        if not isinstance(left, ast.Name):
            raise self.fail(left, "cannot stand before 'in'; write a column")
        if not isinstance(right, (ast.Tuple, ast.List, ast.Set)):
            raise self.fail(right, "cannot follow 'in'; write a list such as ('a', 'b')")
        column, kind = self.operand(left)
        values = []
        for element in right.elts:
            value, kind_element = self.operand(element)
            if isinstance(element, ast.Name) or kind_element != kind:
                raise self.fail(element, f"must be a {kind} to be in the list")
            values.append(value)
        if kind == "text":
            literals = [element.value for element in right.elts if isinstance(element, ast.Constant)]
            found = column.isin(pa.array(literals, type=pa.string()))
        else:
            found = reduce(lambda a, b: a | b, [column == value for value in values], pc.scalar(False))
        return pc.if_else(column.is_null(), pa.scalar(None, type=pa.bool_()), found)

    def operand(self, node: ast.expr) -> tuple[Any, str]:
        """A column or a literal, and its kind: text, number or bool."""
        if isinstance(node, ast.Name):
            if node.id not in self.schema.names:
                raise WhereError(f"where {self.text!r}: {unknown_column(node.id, self.schema.names)}{self.hint}")
            self.used.add(node.id)
            return pc.field(node.id), _kind(self.schema.field(node.id).type)
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            sign = -1 if isinstance(node.op, ast.USub) else 1
            node = node.operand
            if not isinstance(node, ast.Constant) or isinstance(node.value, (bool, str)):
                raise self.fail(node, "is not a number")
        if isinstance(node, ast.Constant):
            value = node.value
            if isinstance(value, bool):
                return pc.scalar(value), "bool"
            if isinstance(value, str):
                return pc.scalar(value), "text"
            if isinstance(value, (int, float)):
                if isinstance(value, int) and abs(value) >= 2**63:
                    raise self.fail(node, "is too large")
                return pc.scalar(sign * value), _NUMBER
        raise self.fail(node, f"is not possible here; {_HELP}")


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _NUMBER
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)
