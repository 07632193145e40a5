"""``Formula``: a right-hand side that a language model wrote, in a small grammar, evaluated by the interpreter below.

The text is parsed to a syntax tree, every node is compared with the list of what is allowed, and the rest of the
program sees nested tuples only. Nothing is compiled or executed: no attribute, no index, no call but the five
functions, no name but ``u``, ``v``, ``p0`` to ``p9``. Size and depth are bounded.

    expression := number | u | v | p0 ... p9 | (expression) | -expression | expression (+ - * / **) expression
                | pow(expression, expression) | exp(expression) | tanh(expression) | sigmoid(expression)
                | where(expression (< <= > >=) expression, expression, expression)
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

CHARACTERS, NODES, DEPTH = 500, 150, 30  # the largest formula
NAMES = ("u", "v", *(f"p{i}" for i in range(10)))
FUNCTIONS = {"pow": 2, "exp": 1, "tanh": 1, "sigmoid": 1, "where": 3}  # and how many arguments each takes
OPERATORS: Mapping[type, str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "pow"}
COMPARISONS: Mapping[type, str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
LARGEST_EXPONENT = 40.0  # exp is held below exp(40), so that one step cannot overflow float32

Tree = tuple[Any, ...]  # ("number", x), ("name", "u"), (operator or function, tree, ...)


@dataclass(frozen=True)
class Formula:
    """An expression in u, v and parameters. Make it with :meth:`parse`."""

    text: str
    tree: Tree

    @classmethod
    def parse(cls, text: str) -> Formula:
        """The formula of a text; ``ValueError`` names what the grammar does not have."""
        if not isinstance(text, str) or len(text) > CHARACTERS:
            raise _refusal("is too long or no text", f"a text of at most {CHARACTERS} characters")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                body = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise _refusal("cannot be read", "one arithmetic expression") from None
        if sum(1 for _ in ast.walk(body)) > 4 * NODES:
            raise _refusal("is too large", f"at most {NODES} terms")
        tree = _checked(body, DEPTH)
        if _size(tree) > NODES:
            raise _refusal("is too large", f"at most {NODES} terms")
        return cls(text.strip(), tree)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that occur, in order."""
        return tuple(name for name in NAMES[2:] if name in _names(self.tree))

    @property
    def size(self) -> int:
        """How many numbers, names, operators and functions it has."""
        return _size(self.tree)

    def __call__(self, values: Mapping[str, Any], xp: Any = np) -> Any:
        """The value for ``values`` of the names that occur (numbers, arrays or tensors that broadcast).

        ``xp`` is ``numpy`` or ``torch``. What is not finite (division by zero, a root of a negative number) comes out
        as such; it is for the caller to notice. ``ValueError`` for a name without a value.
        """
        if missing := _names(self.tree) - set(values):
            raise ValueError(f"values lack {sorted(missing)}; expected one for each name that occurs; add them")
        with np.errstate(all="ignore"):
            return _value(self.tree, {name: _array(value, xp) for name, value in values.items()}, xp)


def _checked(node: ast.AST, depth: int) -> Tree:
    """The tree of a node that the grammar has; constants are folded, so that no number is out of range."""
    if depth == 0:
        raise _refusal("is nested too deeply", f"at most {DEPTH} levels")
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return _number(node.value)
    if isinstance(node, ast.Name) and node.id in NAMES:
        return ("name", node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _checked(node.operand, depth - 1)
        return inner if isinstance(node.op, ast.UAdd) else _folded(("neg", inner))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        parts = _checked(node.left, depth - 1), _checked(node.right, depth - 1)
        return _folded((OPERATORS[type(node.op)], *parts))
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in FUNCTIONS
        and not node.keywords
    ):
        name = node.func.id
        if len(node.args) != FUNCTIONS[name]:
            raise _refusal(f"gives {len(node.args)} arguments to {name}", f"{FUNCTIONS[name]}")
        if name == "where":
            return ("where", _comparison(node.args[0], depth - 1), *(_checked(a, depth - 1) for a in node.args[1:]))
        return _folded((name, *(_checked(argument, depth - 1) for argument in node.args)))
    expected = f"u, v, p0 to p9, numbers, + - * / **, {', '.join(FUNCTIONS)}"
    raise _refusal(f"has a {type(node).__name__} that the grammar does not have", expected)


def _comparison(node: ast.AST, depth: int) -> Tree:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        return (COMPARISONS[type(node.ops[0])], _checked(node.left, depth), _checked(node.comparators[0], depth))
    raise _refusal("has a condition that the grammar does not have", "one comparison with <, <=, > or >=")


def _number(value: float) -> Tree:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or abs(number) > 1e9:
        raise _refusal("has a number beyond 1e9", "moderate numbers")
    return ("number", number)


def _folded(tree: Tree) -> Tree:
    """The number of a tree without names, or the tree."""
    if any(part[0] != "number" for part in tree[1:]):
        return tree
    with np.errstate(all="ignore"):
        return _number(float(np.real_if_close(_value(tree, {}, np))))


def _value(tree: Tree, names: Mapping[str, Any], xp: Any) -> Any:
    kind = tree[0]
    if kind == "number":
        return np.float64(tree[1]) if xp is np else tree[1]
    if kind == "name":
        return names[tree[1]]
    parts = [_value(part, names, xp) for part in tree[1:]]
    return _APPLY[kind](xp, *parts)


def _array(value: Any, xp: Any) -> Any:
    """An array of ``xp``; a tensor stays itself, with its gradient."""
    return xp.asarray(value) if xp is np else xp.as_tensor(value)


def _exp(xp: Any, x: Any) -> Any:
    return xp.exp(xp.clip(x, -LARGEST_EXPONENT, LARGEST_EXPONENT))


_APPLY: Mapping[str, Any] = {
    "+": lambda xp, a, b: a + b,
    "-": lambda xp, a, b: a - b,
    "*": lambda xp, a, b: a * b,
    "/": lambda xp, a, b: a / b,
    "neg": lambda xp, a: -a,
    "pow": lambda xp, a, b: a**b,
    "exp": _exp,
    "tanh": lambda xp, a: xp.tanh(a),
    "sigmoid": lambda xp, a: 0.5 + 0.5 * xp.tanh(0.5 * a),
    "where": lambda xp, condition, a, b: xp.where(_array(condition, xp), a, b),
    "<": lambda xp, a, b: a < b,
    "<=": lambda xp, a, b: a <= b,
    ">": lambda xp, a, b: a > b,
    ">=": lambda xp, a, b: a >= b,
}


def _size(tree: Tree) -> int:
    return 1 + sum(_size(part) for part in tree[1:] if isinstance(part, tuple))


def _names(tree: Tree) -> set[str]:
    if tree[0] == "name":
        return {tree[1]}
    return set().union(*(_names(part) for part in tree[1:] if isinstance(part, tuple)))


def _refusal(what: str, expected: str) -> ValueError:
    return ValueError(f"the formula {what}; expected {expected}; write it within the grammar of ecg_gym.tissue.formula")
