"""The disks of real nodes: a file system for each that knows what is durable.

A node's data folder is a FUSE file system, served by a process of the run. Powers
that no kernel offers come from that: what was written and never synced can be taken
away, as a loss of power does, and any operation can fail or take long.

    abi.py         the kernel's side of FUSE: numbers and layouts
    inodes.py      files and folders as they are, and what of them is not durable yet
    names.py       new names, removals and renames, and which of them are durable
    contents.py    where bytes are kept: as written, and as durable
    filesystem.py  what POSIX says, on top of those three; losses of power
    decay.py       damage to what is durable
    rules.py       operations that fail, or take long
    server.py      answers the kernel's requests
    orders.py      what the controller and the server say to each other
    disks.py       the controller's side: `harness.worlds.disks.Disks`
    mounting.py    mounts it, and tells why that can't be done here
    plain.py       where it can't: the little that is possible without

We speak the kernel's protocol ourselves, over /dev/fuse, with no library: libfuse has
to be installed by root and is driven by paths, so that a file that was unlinked while
open, or has two names, is a special case; in the protocol it is a file like any other.
"""
