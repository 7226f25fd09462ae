"""A stack machine for pickles that knows data and calls nothing.

Python's own unpickler calls whatever a file names. Here a global is only looked up in a closed table, and what a file
wants called is handed to a function of ours, which makes data of it or refuses. Operations: `pickletools`, PEP 3154.
"""

from __future__ import annotations

import codecs
import io
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_DIGITS: Final = 100
"""Of an integer written as text; parsing takes quadratic time."""


class BadPickleError(Exception):
    """What is wrong with the pickle; becomes a TalksetError that names the file."""


class RefusedError(BadPickleError):
    """The pickle asks for something that could run code."""


@dataclass(frozen=True)
class Global:
    """A name of the table: `kind` is what the table makes of it."""

    module: str
    name: str
    kind: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Node:
    """An object under construction: what it is, how it was made, and the state that BUILD gave it."""

    made_by: Global
    arguments: tuple[Any, ...] = ()
    state: Any = None


class Machine:
    """Reads one pickle of a stream.

    Args: table: (module, name) of the globals that may occur -> kind; make: turns (global, arguments) into data or
    raises RefusedError; persist: likewise for persistent ids, which are refused without it.
    """

    def __init__(
        self,
        stream: io.BytesIO,
        table: Mapping[tuple[str, str], str],
        make: Callable[[Global, tuple[Any, ...]], Any],
        persist: Callable[[Any], Any] | None = None,
    ) -> None:
        self._stream, self._table, self._make, self._persist = stream, table, make, persist
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object on the stack at STOP, with nodes in it; RefusedError, or any other error for a broken pickle."""
        while True:
            code = self._stream.read(1)
            if code == pickle.STOP:
                return self._stack.pop()
            action = _ACTIONS.get(code)
            if action is None:
                if not code:
                    raise EOFError("the pickle ends in its middle")
                if code not in _OPCODE_NAMES:
                    raise BadPickleError(f"{code!r} is no pickle operation")
                raise RefusedError(f"uses the pickle operation {_OPCODE_NAMES[code]}")
            action(self)

    def take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        data = self._stream.read(max(count, 0))
        if len(data) != count:
            raise EOFError(f"{count} bytes are declared, {len(data)} are there")
        return data

    def number(self, form: str) -> Any:
        """A packed number."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        """Up to the end of the line."""
        line = self._stream.readline()
        if not line.endswith(b"\n"):
            raise EOFError("a line has no end")
        return line[:-1]

    def push(self, value: Any) -> None:
        """Onto the stack."""
        self._stack.append(value)

    def pop(self) -> Any:
        """Off the stack."""
        return self._stack.pop()

    def mark(self) -> None:
        """Begin a run of items."""
        self._marks.append(self._stack)
        self._stack = []

    def since_mark(self) -> list[Any]:
        """End a run of items."""
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def peek(self) -> Any:
        """The value on top."""
        return self._stack[-1]

    def top(self, kind: type) -> Any:
        """The value on top, which must be of exactly this type."""
        if type(self._stack[-1]) is not kind:
            raise RefusedError(f"adds items to an object of type {type(self._stack[-1]).__name__}")
        return self._stack[-1]

    def remember(self, key: int) -> None:
        """Store the top in the memo."""
        self._memo[key] = self._stack[-1]

    def memoize(self) -> None:
        """Store the top under the next free number."""
        self._memo[len(self._memo)] = self._stack[-1]

    def recall(self, key: int) -> None:
        """Push what the memo has."""
        self._stack.append(self._memo[key])

    def look_up(self, module: Any, name: Any) -> None:
        """Push a global of the table, or refuse it by name."""
        kind = self._table.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
        if kind is None:
            raise RefusedError(f"asks for {f'{module}.{name}'[:120]!r}")
        self._stack.append(Global(module, name, kind))

    def call(self, function: Any, arguments: Any) -> None:
        """REDUCE, NEWOBJ, OBJ and INST: have made what the table says."""
        if not isinstance(function, Global) or type(arguments) is not tuple:
            raise RefusedError(f"calls an object of type {type(function).__name__}")
        self._stack.append(self._make(function, arguments))

    def build(self) -> None:
        """BUILD: keep the state; it is interpreted, never set as attributes."""
        state = self._stack.pop()
        node = self._stack[-1]
        if type(node) is dict and state in (None, {}):
            return  # an OrderedDict without attributes of its own
        if type(node) is not Node or node.state is not None:
            raise RefusedError(f"sets the state of an object of type {type(node).__name__}")
        if type(state) is tuple and len(state) == 2:
            raise RefusedError(f"sets slots of {node.made_by}")
        if type(state) is dict:
            for key in state:
                if not isinstance(key, str) or key.startswith("__"):
                    raise RefusedError(f"sets the attribute {str(key)[:80]!r} of {node.made_by}")
        node.state = state

    def persistent(self, key: Any) -> None:
        """An object outside of the pickle."""
        if self._persist is None:
            raise RefusedError(f"refers to the outside by the persistent id {str(key)[:80]!r}")
        self._stack.append(self._persist(key))


def _protocol(machine: Machine) -> None:
    if (number := machine.number("<B")) > pickle.HIGHEST_PROTOCOL:
        raise BadPickleError(f"it is of the pickle protocol {number}")


def _drop(machine: Machine) -> None:
    machine.pop()


def _drop_items(machine: Machine) -> None:
    machine.since_mark()


def _items(machine: Machine) -> None:
    values = machine.since_mark()
    machine.top(dict).update(zip(values[::2], values[1::2], strict=True))


def _item(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.top(dict)[key] = value


def _append(machine: Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _extend(machine: Machine) -> None:
    values = machine.since_mark()
    machine.top(list).extend(values)


def _dict(machine: Machine) -> None:
    values = machine.since_mark()
    machine.push(dict(zip(values[::2], values[1::2], strict=True)))


def _tuple_of(count: int) -> Callable[[Machine], None]:
    def action(machine: Machine) -> None:
        machine.push(tuple(reversed([machine.pop() for _ in range(count)])))

    return action


def _number_of(form: str) -> Callable[[Machine], None]:
    return lambda machine: machine.push(machine.number(form))


def _bytes_of(form: str, encoding: str | None = None) -> Callable[[Machine], None]:
    def action(machine: Machine) -> None:
        data = machine.take(machine.number(form))
        machine.push(
            data if encoding is None else data.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")
        )

    return action


def _long_of(form: str) -> Callable[[Machine], None]:
    return lambda machine: machine.push(int.from_bytes(machine.take(machine.number(form)), "little", signed=True))


def _int_line(machine: Machine) -> None:
    text = machine.line()
    if len(text) > MAX_DIGITS:
        raise BadPickleError(f"an integer has {len(text)} digits")
    machine.push({b"00": False, b"01": True}[text] if text in (b"00", b"01") else int(text.rstrip(b"L")))


def _string_line(machine: Machine) -> None:
    text = machine.line()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise BadPickleError("a string has no quotes")
    machine.push(codecs.escape_decode(text[1:-1])[0].decode("latin-1"))


def _global_line(machine: Machine) -> None:
    machine.look_up(machine.line().decode("utf-8"), machine.line().decode("utf-8"))


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.look_up(module, name)


def _reduce(machine: Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.call(function, arguments)


def _inst(machine: Machine) -> None:
    arguments = tuple(machine.since_mark())
    _global_line(machine)
    machine.call(machine.pop(), arguments)


def _obj(machine: Machine) -> None:
    function, *arguments = machine.since_mark()
    machine.call(function, tuple(arguments))


_ACTIONS: Final[dict[bytes, Callable[[Machine], None]]] = {
    pickle.PROTO: _protocol,
    pickle.FRAME: lambda machine: machine.number("<Q"),
    pickle.MARK: lambda machine: machine.mark(),
    pickle.POP: _drop,
    pickle.POP_MARK: _drop_items,
    pickle.DUP: lambda machine: machine.push(machine.peek()),
    pickle.NONE: lambda machine: machine.push(None),
    pickle.NEWTRUE: lambda machine: machine.push(True),
    pickle.NEWFALSE: lambda machine: machine.push(False),
    pickle.INT: _int_line,
    pickle.BININT: _number_of("<i"),
    pickle.BININT1: _number_of("<B"),
    pickle.BININT2: _number_of("<H"),
    pickle.LONG: _int_line,
    pickle.LONG1: _long_of("<B"),
    pickle.LONG4: _long_of("<i"),
    pickle.FLOAT: lambda machine: machine.push(float(machine.line())),
    pickle.BINFLOAT: _number_of(">d"),
    pickle.STRING: _string_line,
    pickle.BINSTRING: _bytes_of("<i", "latin-1"),
    pickle.SHORT_BINSTRING: _bytes_of("<B", "latin-1"),
    pickle.UNICODE: lambda machine: machine.push(machine.line().decode("raw-unicode-escape")),
    pickle.BINUNICODE: _bytes_of("<I", "utf-8"),
    pickle.SHORT_BINUNICODE: _bytes_of("<B", "utf-8"),
    pickle.BINUNICODE8: _bytes_of("<Q", "utf-8"),
    pickle.BINBYTES: _bytes_of("<I"),
    pickle.SHORT_BINBYTES: _bytes_of("<B"),
    pickle.BINBYTES8: _bytes_of("<Q"),
    pickle.BYTEARRAY8: _bytes_of("<Q"),
    pickle.TUPLE: lambda machine: machine.push(tuple(machine.since_mark())),
    pickle.EMPTY_TUPLE: lambda machine: machine.push(()),
    pickle.TUPLE1: _tuple_of(1),
    pickle.TUPLE2: _tuple_of(2),
    pickle.TUPLE3: _tuple_of(3),
    pickle.LIST: lambda machine: machine.push(machine.since_mark()),
    pickle.EMPTY_LIST: lambda machine: machine.push([]),
    pickle.APPEND: _append,
    pickle.APPENDS: _extend,
    pickle.DICT: _dict,
    pickle.EMPTY_DICT: lambda machine: machine.push({}),
    pickle.SETITEM: _item,
    pickle.SETITEMS: _items,
    pickle.EMPTY_SET: lambda machine: machine.push([]),
    pickle.ADDITEMS: _extend,
    pickle.FROZENSET: lambda machine: machine.push(machine.since_mark()),
    pickle.PUT: lambda machine: machine.remember(int(machine.line())),
    pickle.BINPUT: lambda machine: machine.remember(machine.number("<B")),
    pickle.LONG_BINPUT: lambda machine: machine.remember(machine.number("<I")),
    pickle.MEMOIZE: lambda machine: machine.memoize(),
    pickle.GET: lambda machine: machine.recall(int(machine.line())),
    pickle.BINGET: lambda machine: machine.recall(machine.number("<B")),
    pickle.LONG_BINGET: lambda machine: machine.recall(machine.number("<I")),
    pickle.GLOBAL: _global_line,
    pickle.STACK_GLOBAL: _stack_global,
    pickle.REDUCE: _reduce,
    pickle.NEWOBJ: _reduce,
    pickle.INST: _inst,
    pickle.OBJ: _obj,
    pickle.BUILD: lambda machine: machine.build(),
    pickle.PERSID: lambda machine: machine.persistent(machine.line().decode("latin-1")),
    pickle.BINPERSID: lambda machine: machine.persistent(machine.pop()),
}
"""What the machine does for each operation; all others (extension registry, out-of-band buffers) are refused."""

_OPCODE_NAMES: Final = {
    value: name
    for name, value in vars(pickle).items()
    if name.isupper() and isinstance(value, bytes) and len(value) == 1
}
