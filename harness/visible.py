"""Makes text harmless to terminals and browsers: control characters are spelled out.

Terminals obey escape sequences, and terminals and browsers obey the characters that
change the direction of text. Both may come from histories, node logs, names of files
and rows, and errors that quote them, none of which can be trusted. All text for a
terminal or a page goes through here on its way out: in `harness.cli.terminal` and
`progress`, in `harness.report.page` and `index`, in `harness.judge.explain`, and in
`harness.campaign.torture`, whose texts pytest prints.
"""

from __future__ import annotations

import re

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_OBEYED = re.compile(
    "["
    "\x00-\x08\x0b-\x1f"  # C0: BEL, backspace, CR, ESC; tab and newline are layout
    "\x7f-\x9f"  # DEL and C1, of which CSI and OSC are two
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction of text
    "\u2028\u2029"  # line ends to some programs, and letters to others
    "\ufeff\ufff9-\ufffb"  # marks of annotation, and a mark that is invisible
    "\ud800-\udfff"  # halves of characters, which no encoding has
    "]"
)


def visible(text: str) -> str:
    r"""`text` with every character that a display obeys spelled out, as `\x1b`.

    Tabs and newlines stay. A second application changes nothing.
    """
    return _OBEYED.sub(_spelled, text)


def visible_line(text: str) -> str:
    """`visible` text in one line: tabs and newlines are spelled out too."""
    return visible(text).replace("\n", r"\n").replace("\t", r"\t")


def without_colours(text: str) -> str:
    """`text` without the sequences that set colours, of which node logs are full."""
    return _COLOUR.sub("", text)


def _spelled(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]
