"""The os world: real processes in namespaces, on a network that is ours to break.

`namespaces` isolates a run so that nothing of it can stay behind. On top of that stands
one of two networks: `switch` (each node has a network namespace, a process of ours
carries every frame) or, where there are no namespaces, `proxy` (a TCP proxy per
directed link). `warden` is the parent of all nodes; `vdso` skews their clocks. `offer`
says what this machine allows, and `world` sets it up.
"""
