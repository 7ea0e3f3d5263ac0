"""System calls that change what is known of a file by its path, which Landlock does not judge.

Where mounts can't be made read-only, what the command could do with them to the host's files is refused altogether.
"""

from typing import Final

from toolbox.jail.spec import Spec

# These are for a file's owner alone: another user can do no harm with them.
OWNERS: Final = (
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
)
EXTENDED: Final = ("setxattr", "lsetxattr", "removexattr", "lremovexattr")


def refused(spec: Spec) -> tuple[str, ...]:
    """Return the names of those that this command must not have."""
    if spec.isolated:
        return ()
    return EXTENDED if spec.uid is not None else (*OWNERS, *EXTENDED)
