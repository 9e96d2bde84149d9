"""The disks of real nodes: a file system for each that knows what is durable.

A node's data folder is a FUSE file system, served by a process of the run. Powers
that no kernel offers come from that: what was written and never synced can be taken
away, as a loss of power does, and any operation can fail or take long.

    abi         the kernel's side of FUSE: numbers and layouts
    inodes      files and folders as they are, and the pieces that are not durable yet
    names       new names, removals and renames, and which of them are durable
    contents    where bytes are kept: as written, and as durable
    filesystem  what POSIX says, on top of those three; losses of power
    decay       damage to what is durable
    rules       operations that fail, or take long
    server      answers the kernel's requests
    orders      what the controller and the server say to each other
    disks       the controller's side: `harness.worlds.disks.Disks`
    mounting    mounts it, and tells why that can't be done here

We speak the kernel's protocol ourselves, over /dev/fuse, with no library: libfuse has
to be installed by root and is driven by paths, so that a file that was unlinked while
open, or has two names, is a special case; in the protocol it is a file like any other.
"""
