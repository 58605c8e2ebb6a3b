"""The command line: ``sdekit demo``, ``sdekit info``; each command is a module with ``HELP``, ``configure`` and ``run``."""
