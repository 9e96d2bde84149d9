"""Results: an index of many runs, to be asked by people and programs.

Everything here reads run folders and suites' folders, and writes nothing but the index,
`results/index.sqlite`, which is made anew from the folders whenever it is lost.

    index.py         finds run folders below a results folder, and keeps their facts
    queries.py       the questions: runs, fingerprints, nights, trends
"""
