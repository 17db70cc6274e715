"""``python -m veridice`` is ``veridice``."""

from veridice.cli import main

main()
