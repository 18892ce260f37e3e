"""``python -m trellic``: the command line."""

from trellic.cli import main

main()
