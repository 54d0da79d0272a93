"""Ends the program when imported, as a script without a main guard does."""

raise SystemExit("bye")
