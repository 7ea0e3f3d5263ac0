"""System calls that change a file's mode, owner, times or attributes by its path, which Landlock does not judge.

Where mounts can't be made read-only and the command keeps our user, they are refused altogether.
"""

from typing import Final

CHANGE_ATTRIBUTES: Final = (
    "chmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "lchown",
    "fchownat",
    "utime",
    "utimes",
    "futimesat",
    "utimensat",
    "setxattr",
    "lsetxattr",
    "removexattr",
    "lremovexattr",
)
