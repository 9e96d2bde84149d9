"""The os world: real processes in namespaces, on a network that is ours to break.

`namespaces` isolates a run so that nothing of it can stay behind. On top of that stands
one of two networks: `switch` (each node a network namespace, every frame carried by a
process of ours) or, where namespaces can't be had, `proxy` (each directed link a TCP
proxy). `warden` is the parent of all nodes; `vdso` skews their clocks. `offer` says
what of this can be had here, and `world` sets it up.
"""
