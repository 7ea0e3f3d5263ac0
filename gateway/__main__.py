"""`python -m gateway` is `callboard`."""

from gateway.cli import main

main()
