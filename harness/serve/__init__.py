"""Results: an index of many runs, to be asked by people and programs.

Everything here reads run folders and suites' folders, and writes nothing but the index,
`results/index.sqlite`, which is made anew from the folders whenever it is lost.

    index.py         finds run folders below a results folder, and keeps their facts
    queries.py       questions for runs, as options and URLs have them
    summaries.py     ways to fail, nights beside each other, trends
    pages.py         both as HTML; links.py knows where pages lie
    app.py           the server; static.py writes the same pages as files
    assets/          templates and a style sheet
"""
