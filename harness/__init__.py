"""The kernel: histories, generators, interpreter, worlds, adapters, command line.

Its modules, in the order of a run; rooms have an order of their own:

    asked for    `__main__`, `program`, `cli`, `flags`, `interrupts`, `doctor`,
                 `catalogue`; `spec`, `options`, `documents`, `data`
    assembled    `registry`, `system`, `abilities`, `workload`, `services`, `mutants`
    carried out  `run`, `controller`, `cluster`, `leadership`, `watch`, `interpreter`,
                 `client`, `wire`, `blocking`
    recorded     `history`, `columns`, `store`, `records`, `nodefiles`, `observations`
    judged       `analysis`, `verdict`, `account`, `check`, `apart`
    for all      `errors`, `outlet`, `visible`, `progress`, `scarcity`, `scratch`,
                 `collector`, `kernel`
"""
