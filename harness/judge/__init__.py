"""From what was recorded to a verdict.

analysis.py  a run folder: verdict.json and the report
account.py   what a run did and what went wrong in it, beside its verdict
check.py     history files from anywhere: the work of `splitbrain check`
explain.py   the anomalies of a checked file, as text, DOT, SVG and a page
"""
