"""Text that is shown on a terminal: names in files can hold anything."""

from __future__ import annotations


def escaped(text: str) -> str:
    r"""Return text in which what cannot be seen is written out, as ``\u202e``: names in files can hold anything.

    Control characters can steer a terminal, and those that turn the direction of writing can make a line read as
    another one. The form is that of a JSON string.
    """
    return text if text.isprintable() else "".join(letter if letter.isprintable() else _code(letter) for letter in text)


def _code(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def one_line(text: str) -> str:
    """Return text as one line, with what cannot be seen written out; see :func:`escaped`."""
    return escaped(" ".join(text.split()))
