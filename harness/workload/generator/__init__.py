"""Generators: what clients and the nemesis do next, composable and seeded.

    from harness.workload import generator as gen

    def write(rng: random.Random) -> gen.Invocation:
        return gen.Invocation("write", rng.randrange(5))

    gen.phases(
        gen.time_limit(60, gen.beside(
            gen.rate(100, gen.mix(write, gen.repeat(gen.Invocation("read")))),
            gen.repeat([gen.sleep(5), gen.Invocation("start"),
                        gen.sleep(5), gen.Invocation("stop")]))),
        gen.nemesis(gen.Invocation("stop")),
        gen.clients(gen.each_thread(gen.until_ok(
            gen.repeat(gen.Invocation("read"))))))

In the place of a generator there may be an `Invocation` (done once), a function of a
random source (called for one operation after another) or an iterable (gone through in
order). The names and most of the meanings are Jepsen's (jepsen.generator 0.3).

    flow.py     the vocabulary, and how generators work; read it to write a new one
    sources.py  from_function, from_iterable, then, repeat, sleep, log
    shape.py    once, limit, synchronize, phases, until, until_ok, map_ops, f_map,
                filter_ops
    timing.py   time_limit, stagger, rate, delay
    choice.py   mix, any_of, clients, nemesis, beside, each_thread, reserve,
                sequential_keys, concurrent_keys
"""

from harness.workload.generator.choice import (
    any_of,
    beside,
    clients,
    concurrent_keys,
    each_thread,
    mix,
    nemesis,
    reserve,
    sequential_keys,
)
from harness.workload.generator.flow import (
    DONE,
    HEAL,
    NEMESIS,
    PENDING,
    START,
    STOP,
    Board,
    Context,
    Done,
    Event,
    Flow,
    Generator,
    GeneratorError,
    GeneratorLike,
    Invocation,
    Log,
    Offer,
    Pending,
    Seeds,
    Step,
    Thread,
)
from harness.workload.generator.shape import (
    Around,
    around,
    f_map,
    filter_ops,
    limit,
    map_ops,
    once,
    phases,
    synchronize,
    until,
    until_ok,
)
from harness.workload.generator.sources import (
    as_generator,
    from_function,
    from_iterable,
    log,
    place,
    repeat,
    sleep,
    then,
)
from harness.workload.generator.timing import delay, rate, stagger, time_limit

__all__ = [
    "DONE",
    "HEAL",
    "NEMESIS",
    "PENDING",
    "START",
    "STOP",
    "Around",
    "Board",
    "Context",
    "Done",
    "Event",
    "Flow",
    "Generator",
    "GeneratorError",
    "GeneratorLike",
    "Invocation",
    "Log",
    "Offer",
    "Pending",
    "Seeds",
    "Step",
    "Thread",
    "any_of",
    "around",
    "as_generator",
    "beside",
    "clients",
    "concurrent_keys",
    "delay",
    "each_thread",
    "f_map",
    "filter_ops",
    "from_function",
    "from_iterable",
    "limit",
    "log",
    "map_ops",
    "mix",
    "nemesis",
    "once",
    "phases",
    "place",
    "rate",
    "repeat",
    "reserve",
    "sequential_keys",
    "sleep",
    "stagger",
    "synchronize",
    "then",
    "time_limit",
    "until",
    "until_ok",
]
