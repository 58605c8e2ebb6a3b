"""The command line, ``sdekit COMMAND``: each command is a module with ``HELP``, ``configure`` and ``run``."""
