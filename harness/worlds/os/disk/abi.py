"""The kernel's side of FUSE: numbers and layouts of <linux/fuse.h>, version 7.31.

The layouts are those of the kernel's stable interface: newer kernels speak to an older
minor version as they always did.
"""

from __future__ import annotations

import struct
from enum import IntEnum

MAJOR, MINOR = 7, 31
ROOT_ID = 1


class Op(IntEnum):
    """What a request asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45
    LSEEK = 46


# What may be asked for at INIT.
ASYNC_READ = 1 << 0
BIG_WRITES = 1 << 5
ASYNC_DIO = 1 << 15
PARALLEL_DIROPS = 1 << 18
MAX_PAGES = 1 << 22
CACHE_SYMLINKS = 1 << 23
EXPLICIT_INVAL_DATA = 1 << 25
HANDLE_KILLPRIV_V2 = 1 << 28

# Which fields a SETATTR sets.
SET_MODE, SET_UID, SET_GID, SET_SIZE = 1 << 0, 1 << 1, 1 << 2, 1 << 3
SET_ATIME, SET_MTIME, SET_ATIME_NOW, SET_MTIME_NOW = 1 << 4, 1 << 5, 1 << 7, 1 << 8
SET_CTIME, SET_KILL_SUIDGID = 1 << 10, 1 << 11

WRITE_KILL_SUIDGID = 1 << 2
FOPEN_KEEP_CACHE = 1 << 1

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2

NOTIFY_INVAL_INODE, NOTIFY_INVAL_ENTRY = 2, 3

IN_HEADER = struct.Struct("=IIQQIIIHH")
"""Length, opcode, unique, node id, uid, gid, pid, length of extensions, padding."""
OUT_HEADER = struct.Struct("=IiQ")
"""Length, negative error, unique."""

ATTRIBUTES = struct.Struct("=QQQQQQIIIIIIIIII")
ENTRY_OUT = struct.Struct("=QQQQII")
"""Node id, generation, validity of name and of attributes; attributes follow."""
ATTR_OUT = struct.Struct("=QII")
"""Validity of attributes; attributes follow."""
INIT_IN = struct.Struct("=IIII")
INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
SETATTR_IN = struct.Struct("=IIQQQQQQIIIIIIII")
MKNOD_IN = struct.Struct("=IIII")
MKDIR_IN = struct.Struct("=II")
RENAME_IN = struct.Struct("=Q")
RENAME2_IN = struct.Struct("=QII")
LINK_IN = struct.Struct("=Q")
CREATE_IN = struct.Struct("=IIII")
OPEN_OUT = struct.Struct("=QII")
READ_IN = struct.Struct("=QQIIQII")
WRITE_IN = struct.Struct("=QQIIQII")
WRITE_OUT = struct.Struct("=II")
FORGET_IN = struct.Struct("=Q")
BATCH_FORGET_IN = struct.Struct("=II")
FORGET_ONE = struct.Struct("=QQ")
INTERRUPT_IN = struct.Struct("=Q")
STATFS_OUT = struct.Struct("=QQQQQIIII24x")
SETXATTR_IN = struct.Struct("=II")
GETXATTR_IN = struct.Struct("=II")
GETXATTR_OUT = struct.Struct("=II")
FALLOCATE_IN = struct.Struct("=QQQII")
LSEEK_IN = struct.Struct("=QQII")
LSEEK_OUT = struct.Struct("=Q")
DIRENT = struct.Struct("=QQII")
"""Inode number, offset of the next, length of the name, type; the name follows."""
INVAL_INODE_OUT = struct.Struct("=Qqq")
INVAL_ENTRY_OUT = struct.Struct("=QII")
"""Parent's node id, length of the name, flags; the name and a zero follow."""
