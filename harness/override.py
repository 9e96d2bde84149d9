"""`override`, which the standard library has from Python 3.12 on.

A method that says so needs no docstring of its own: it does what the overridden one
says. `reference_impls` has its own, as it imports nothing of the harness.
"""

from __future__ import annotations

import typing

if typing.TYPE_CHECKING:
    from typing_extensions import override as override
else:
    override = getattr(typing, "override", lambda method: method)
