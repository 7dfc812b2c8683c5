"""Cuts the text of rules into the tokens of Prolog, and finds where each clause ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from detectors.rules.language.terms import Place

Kind = Literal["name", "quoted", "variable", "integer", "float", "text", "punctuation", "end"]

LARGEST_INTEGER = 1 << 60


@dataclass(frozen=True, slots=True)
class Token:
    """Holds one token of a clause."""

    kind: Kind
    text: str
    place: Place
    value: int | float = 0
    """Of an integer or a float."""
    follows: bool = False
    """Whether it is directly behind the token before it, without a space."""


class RulesSyntaxError(ValueError):
    """A clause is not Prolog as rules use it; ``place`` says where."""

    def __init__(self, text: str, place: Place, *, ends_clause: bool = False) -> None:
        """``ends_clause``: the next clause begins in the line after the error, as far as that can be told."""
        super().__init__(text)
        self.ends_clause = ends_clause
        self.text = text
        self.place = place


_LAYOUT = re.compile(r"(?:\s+|%[^\n]*|/\*.*?\*/)+", re.DOTALL)
_WORD = re.compile(r"[^\W\d]\w*")
_SYMBOLS = re.compile(r"[+\-*/\\^<>=~:.?@#&$]+")
_NUMBER = re.compile(
    r"0x(?P<hexadecimal>[0-9a-fA-F]+)|0o(?P<octal>[0-7]+)|0b(?P<binary>[01]+)"
    r"|(?P<float>\d+\.\d+(?:[eE][+-]?\d+)?)|(?P<decimal>\d+)"
)
_END = re.compile(r"\.(?=\s|%|$)")
_CHARACTER_CODE = re.compile(r"0'(?:\\(?P<escape>.)|(?P<quote>'')|(?P<plain>[^\\']))", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "s": " "}
_HEXADECIMAL = re.compile(r"x([0-9a-fA-F]{1,6})\\?")
_PUNCTUATION = "()[]{},|"
_BASES = {"hexadecimal": 16, "octal": 8, "binary": 2, "decimal": 10}


class Tokens:
    """Reads tokens from a text; after an error the next clause can be read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, at: int) -> Place:
        """Return the line and column of character number ``at``."""
        from_line, to_line = 0, len(self._lines)
        while to_line - from_line > 1:
            middle = (from_line + to_line) // 2
            from_line, to_line = (middle, to_line) if self._lines[middle] <= at else (from_line, middle)
        return Place(from_line + 1, at - self._lines[from_line] + 1)

    def clauses(self) -> Iterator[list[Token] | RulesSyntaxError]:
        """Yield the tokens of each clause, without its final period, or the error that is in it."""
        while True:
            self._skip_layout()
            if self._at >= len(self._text):
                return
            tokens: list[Token] = []
            try:
                while (token := self._next(tokens)).kind != "end":
                    tokens.append(token)
            except RulesSyntaxError as error:
                if not error.ends_clause:
                    self._skip_clause()
                yield error
                continue
            yield tokens

    def _skip_layout(self) -> bool:
        match = _LAYOUT.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
        return match is not None

    def _skip_clause(self) -> None:
        """Go behind the period that ends the clause, as far as that can be told after an error."""
        match = _END.search(self._text, self._at)
        self._at = len(self._text) if match is None else match.end()

    def _next(self, before: list[Token]) -> Token:
        layout = self._skip_layout()
        start, place = self._at, self.place(self._at)
        if start >= len(self._text):
            began = before[0].place if before else place
            raise RulesSyntaxError(
                f"the file ends inside the clause that begins in line {began.line}; a clause ends with a period", began
            )
        if self._text.startswith("/*", start):
            raise RulesSyntaxError("this comment has no end; write */ behind it", place)
        if (end := _END.match(self._text, start)) is not None and not self._is_symbol_end(before, layout):
            self._at = end.end()
            return Token("end", ".", place)
        return self._token(start, place, follows=bool(before) and not layout)

    @staticmethod
    def _is_symbol_end(before: list[Token], layout: bool) -> bool:
        """Return whether a period at this place belongs to the symbols before it (they would have taken it)."""
        return bool(before) and not layout and bool(_SYMBOLS.fullmatch(before[-1].text)) and before[-1].kind == "name"

    def _token(self, start: int, place: Place, *, follows: bool) -> Token:
        text = self._text
        character = text[start]
        if character.isdigit():
            return self._number(start, place, follows)
        if character in "'\"":
            value = self._quoted(character, start, place)
            return Token("quoted" if character == "'" else "text", value, place, follows=follows)
        if character == "`":
            raise RulesSyntaxError("text in back quotes is not used in rules; write 'text'", place)
        if character in _PUNCTUATION or character in "!;":
            self._at = start + 1
            return Token("name" if character in "!;" else "punctuation", character, place, follows=follows)
        if (match := _WORD.match(text, start)) is not None:
            self._at = match.end()
            return self._word(match.group(), place, follows)
        if (match := _SYMBOLS.match(text, start)) is not None:
            self._at = match.end()
            return Token("name", match.group(), place, follows=follows)
        raise RulesSyntaxError(f"the character {character!r} has no meaning here", place)

    @staticmethod
    def _word(word: str, place: Place, follows: bool) -> Token:
        if not (word[0] == "_" or word[0].isupper()):
            return Token("name", word, place, follows=follows)
        if not word.isascii():
            raise RulesSyntaxError(
                f"{word[:40]} is no variable: variables are written with A to Z, digits and _", place
            )
        return Token("variable", word, place, follows=follows)

    def _number(self, start: int, place: Place, follows: bool) -> Token:
        if (match := _CHARACTER_CODE.match(self._text, start)) is not None:
            self._at = match.end()
            escape = match["escape"]
            if escape is not None and escape not in "\\'\"`" and escape not in _ESCAPES:
                raise RulesSyntaxError(f"\\{escape} is no character; write \\\\ for a backslash", place)
            shown = _ESCAPES.get(escape, escape) if escape is not None else "'" if match["quote"] else match["plain"]
            return Token("integer", match.group(), place, ord(shown), follows)
        match = _NUMBER.match(self._text, start)
        if match is None:
            raise RulesSyntaxError(f"{self._text[start]!r} begins no number; digits are 0 to 9", place)
        self._at = match.end()
        if self._at < len(self._text) and (self._text[self._at].isalnum() or self._text[self._at] == "_"):
            raise RulesSyntaxError(
                f"{self._text[start : self._at + 1]!r} is no number; put a space or an operator behind it", place
            )
        kind = str(match.lastgroup)
        if kind == "float":
            value = float(match.group())
            if value in (float("inf"), float("-inf")):
                raise RulesSyntaxError(f"{match.group()} is too large for a number", place)
            return Token("float", match.group(), place, value, follows)
        digits = match[kind]
        # So many digits are too large, and Python refuses to read many more of them.
        if len(digits) > 64 or int(digits, _BASES[kind]) > LARGEST_INTEGER:
            raise RulesSyntaxError(f"the integer {match.group()[:30]} is too large; write a float", place)
        return Token("integer", match.group(), place, int(digits, _BASES[kind]), follows)

    def _quoted(self, quote: str, start: int, place: Place) -> str:
        """Read a quoted text; the two ways to write its quote are twice, and behind a backslash."""
        text, at, shown = self._text, start + 1, []
        while at < len(text):
            character = text[at]
            if character == quote:
                if text.startswith(quote, at + 1):
                    shown.append(quote)
                    at += 2
                    continue
                self._at = at + 1
                return "".join(shown)
            if character == "\n":
                break
            if character == "\\":
                at = self._escape(at, shown)
                continue
            shown.append(character)
            at += 1
        self._at = at
        why = f"this quoted text has no end in its line; write {quote} behind it"
        raise RulesSyntaxError(why, place, ends_clause=True)

    def _escape(self, at: int, shown: list[str]) -> int:
        """Add the character that the escape at ``at`` means; return where the text goes on."""
        text = self._text
        following = text[at + 1 : at + 2]
        if following == "\n":
            return at + 2
        if (match := _HEXADECIMAL.match(text, at + 1)) is not None:
            code = int(match.group(1), 16)
            if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                raise RulesSyntaxError(f"\\x{match.group(1)}\\ is no character", self.place(at))
            shown.append(chr(code))
            return match.end()
        if following and following in "\\'\"`":
            shown.append(following)
        elif following in _ESCAPES and following:
            shown.append(_ESCAPES[following])
        else:
            raise RulesSyntaxError(f"\\{following} is no character; write \\\\ for a backslash", self.place(at))
        return at + 2
