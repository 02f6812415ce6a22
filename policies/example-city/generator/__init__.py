"""The parts of the example city's generator; the command is ../generate.py."""
