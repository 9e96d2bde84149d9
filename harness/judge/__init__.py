"""From records to verdicts.

    analysis.py  a run folder: verdict.json and the report
    account.py   a run's operations, errors and troubles, beside its verdict
    effects.py   what happened to clients and leader during each fault
    check.py     history files from anywhere: the work of `splitbrain check`
    advice.py    names another checker, if the one asked can't judge a history
    text.py      the result of a check, in words for a terminal
    explain.py   the anomalies of a checked file, as text, DOT, SVG and a page

Everything is read from files, so it can be done again at any time.
"""
