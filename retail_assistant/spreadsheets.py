"""Text for spreadsheets: cells that hold somebody else's words are shown and never computed.

An apostrophe stands before `=`, `+`, `-`, `@` and control characters that could begin a formula
(OWASP, CSV injection), also after blanks and in their full-width forms.
"""

import re

import polars as pl

_QUOTE = "'"
# Understood by Python and by polars alike.
_FORMULA = "^\\s*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_BEGINS_ONE = re.compile(_FORMULA)


def safe_cell(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula."""
    return _QUOTE + text if _BEGINS_ONE.match(text) else text


def cell_text(cell: str) -> str:
    """What `safe_cell` was made of."""
    return cell[1:] if cell.startswith(_QUOTE) and _BEGINS_ONE.match(cell[1:]) else cell


def spreadsheet_safe(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame whose texts are all `safe_cell`."""
    text = pl.col(pl.String)
    quoted = pl.when(text.str.contains(_FORMULA)).then(pl.lit(_QUOTE) + text).otherwise(text)
    return frame.with_columns(quoted.name.keep())
