"""What a terminal shows: text, in which names from files can contain any character, and progress."""

from __future__ import annotations

from cell_lm.errors import ConfigError


def refuse_uncallable(progress: object, *, flag: bool = False) -> None:
    """Raise :class:`~cell_lm.errors.ConfigError` for a ``progress`` that cannot be called.

    Parameters
    ----------
    progress
        As a user gave it.
    flag
        Whether True and False are valid, too; they show a progress bar or none.
    """
    if progress is None or callable(progress) or (flag and isinstance(progress, bool)):
        return
    fix = "Give a function that is called with the number of cells completed since the last call"
    raise ConfigError(f"progress is {progress!r:.40}", fix=f"{fix}, or True or False" if flag else f"{fix}, or None")


def refuse_other_than_flag(progress: object) -> None:
    """Raise :class:`~cell_lm.errors.ConfigError` for a ``progress`` that is neither True nor False."""
    if not isinstance(progress, bool):
        raise ConfigError(f"progress is {progress!r:.40}", fix="Give True or False")


def escaped(text: str) -> str:
    r"""Return text with invisible characters escaped, as ``\u202e``: names in files can contain any character.

    Control characters can control a terminal, and those that change the writing direction can disguise a line. Escapes
    are those of JSON strings. A non-breaking space, as between a number and its unit, becomes a space.
    """
    text = text.replace("\u00a0", " ")
    return text if text.isprintable() else "".join(letter if letter.isprintable() else _code(letter) for letter in text)


def _code(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def one_line(text: str) -> str:
    """Return text as one line, with invisible characters escaped; see :func:`escaped`."""
    return escaped(" ".join(text.split()))
