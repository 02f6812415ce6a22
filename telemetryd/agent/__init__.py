"""A gNMI target of our own: what a Linux host knows of its interfaces, as OpenConfig has it."""
