"""How a command is confined: a small launcher, started anew for each command, that gives up what the command must not have.

    worker --spawns--> launcher (supervises: orphans come to it, limits, the end of the whole family)
                         +-- child: own namespaces, lower identity, limits, then one tier: sandlock, bubblewrap or confine

The modules below run in the launcher, which starts in 10 ms because they import the standard library only; `jail.py`,
`folder.py`, `output.py`, `ran.py` and `trial.py` belong to the worker, which uses `place.py` and `spec.py` too.
"""
