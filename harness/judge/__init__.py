"""From what was recorded to a verdict.

    analysis.py  a run folder: verdict.json and the report
    account.py   what a run did and what went wrong in it, beside its verdict
    check.py     history files from anywhere: the work of `splitbrain check`
    advice.py    which checker would do, where the one asked makes nothing of a file
    text.py      what a check came to, in words for a terminal
    explain.py   the anomalies of a checked file, as text, DOT, SVG and a page

Everything is read from files, so it can be done again at any time.
"""
