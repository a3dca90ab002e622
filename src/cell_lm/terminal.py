"""Text for a terminal: names in files can contain any character."""

from __future__ import annotations


def escaped(text: str) -> str:
    r"""Return text with invisible characters escaped, as ``\u202e``: names in files can contain any character.

    Control characters can control a terminal, and those that change the writing direction can disguise a line. Escapes
    are those of JSON strings.
    """
    return text if text.isprintable() else "".join(letter if letter.isprintable() else _code(letter) for letter in text)


def _code(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def one_line(text: str) -> str:
    """Return text as one line, with invisible characters escaped; see :func:`escaped`."""
    return escaped(" ".join(text.split()))
