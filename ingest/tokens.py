"""SQL cut into words, names, texts and signs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
      (?P<comment>  /\*(?!!|M!).*?\*/ | --(?=\s|$)[^\n]* | \#[^\n]* )
    | (?P<open>     /\*M?!\d* )             # what follows is executed; its end is the next */
    | (?P<close>    \*/ )
    | (?P<name>     `(?:[^`]++|``)*+` )     # possessive: a text of many megabytes is passed over without remembering how
    | (?P<text>     '(?:[^'\\]++|\\.|'')*+' )
    | (?P<quoted>   "(?:[^"\\]++|\\.|"")*+" )
    | (?P<word>     [\w$\u0080-\uffff]+ )
    | (?P<sign>     \S )
    """,
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """`text` is without quotes. What stands in double quotes (kind `quoted`) is a text, or a name under ANSI_QUOTES."""

    kind: str
    text: str

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.upper() in words

    def is_sign(self, sign: str) -> bool:
        return self.kind == "sign" and self.text == sign

    @property
    def may_name(self) -> bool:
        return self.kind in ("word", "name", "quoted")


def tokens(statement: str) -> Iterator[Token]:
    """The tokens of a statement, comments left out, executable comments looked into."""
    for match in _TOKEN.finditer(statement):
        kind = match.lastgroup or "sign"
        text = match.group()
        if kind in ("comment", "open", "close"):
            continue
        if kind == "name":
            yield Token(kind, text[1:-1].replace("``", "`"))
        elif kind in ("text", "quoted"):
            yield Token(kind, text[1:-1])
        else:
            yield Token(kind, text)
