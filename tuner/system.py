"""What the operating system refuses, whatever a command was about to do, in one message."""

from __future__ import annotations

import errno
import os

# What a full, failing or locked disk says, wherever a file is being written.
DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO),
    *(errno.EACCES, errno.EPERM, errno.ESTALE),
)
DISK = {os.strerror(number) for number in DISK_ERRORS}
# What the system says of a path that cannot be one, whatever it is the path of; and Python or a
# library in other errors.
PATH_ERRORS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
NAMES = (
    *(os.strerror(errno.ENAMETOOLONG), os.strerror(errno.ELOOP)),
    *("embedded null byte", "surrogates not allowed"),
)
FILES = {os.strerror(number) for number in (errno.EMFILE, errno.ENFILE)}
NO_MEMORY = os.strerror(errno.ENOMEM)


def refusal(error: Exception) -> str | None:
    """What to say of an error in which the program has no part.

    Args:
        error: of any library; those outside Python pass on what the system says.

    Returns:
        A message; null where the error is of another kind.
    """
    said = str(error)
    if isinstance(error, OSError) and error.errno in PATH_ERRORS:
        return f"{error.filename}: {error.strerror}"
    if any(reason in said for reason in FILES):
        return f"no more files can be opened: {said[:200]}. `ulimit -n` shows and raises the limit"
    if isinstance(error, MemoryError) or NO_MEMORY in said:
        reason = said.partition("\n")[0][:200] or NO_MEMORY
        return f"out of memory: {reason}. End other programs, or raise the limit (`ulimit -v`)"
    if reason := disk_error(error):
        return f"cannot write: {reason}"
    if any(reason in said for reason in NAMES):
        return f"no file can have such a name: {said[:200]}"
    return None


def disk_error(error: Exception) -> str | None:
    """What a full, failing or locked disk said; null where it was something else.

    Args:
        error: of any library; those outside Python pass it on in words of their own.
    """
    said = str(error)
    return said if any(reason in said for reason in DISK) else None
