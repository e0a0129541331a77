"""Distinguish a file from a copy of it that took its place."""

import ctypes
import fcntl
import os
import struct
from pathlib import Path

#: FS_IOC_GETVERSION of Linux; ext4, XFS and Btrfs have it.
_GET_GENERATION = 0x80087601
#: AT_EMPTY_PATH, STATX_BTIME and the place of the birth time in statx(2), which Python has from 3.15 on.
_EMPTY_PATH, _BIRTH, _BIRTH_OFFSET = 0x1000, 0x800, 80


def identity(path: Path) -> str:
    """Return what a copy of a file does not share with it: the inode, and when that was made.

    File systems reuse inodes, so the inode's generation is included or, without generations (overlayfs,
    tmpfs), its birth time. With neither, a copy that gets the original's inode cannot be distinguished from
    it.
    """
    with path.open("rb") as file:
        inode = os.fstat(file.fileno()).st_ino
        try:
            made = fcntl.ioctl(file, _GET_GENERATION, bytes(8)).hex()
        except OSError:
            made = _birth(file.fileno())
    return f"{inode} {made}"


def _birth(file: int) -> str:
    """Return when the inode of an open file was created, in nanoseconds since 1970; empty if unknown."""
    found = ctypes.create_string_buffer(256)
    try:
        failed = ctypes.CDLL(None).statx(file, b"", _EMPTY_PATH, _BIRTH, found)
    except AttributeError:  # a C library older than the call
        return ""
    if failed or not struct.unpack_from("=I", found)[0] & _BIRTH:
        return ""
    seconds, nanoseconds = struct.unpack_from("=qI", found, _BIRTH_OFFSET)
    return str(seconds * 10**9 + nanoseconds)
