"""Calls that block an event loop fail: everything else waits for them, the watchdog's signs of life too."""

from __future__ import annotations

from typing import Final

from blockbuster import BlockBuster

#: Where it is allowed: file -> functions.
_ALLOWED: Final = {
    # a socket and its directory, in /run: memory
    "telemetryd/serve/gate.py": {"__enter__", "__exit__", "_clear", "_check_free", "_carry"},
    # what is said goes to stderr at once; the journal takes it
    "telemetryd/observe/log.py": {"_emit"},
    # a command's loop, which has nothing else to do meanwhile
    "telemetryd/serve/control_client.py": {"_probe", "_group"},
    "telemetryd/cli/enforce_apply.py": {"_show_plan", "_show_results"},
    "telemetryd/cli/output.py": {"show_table"},
    # gRPC joins its poller's thread at the end of a loop
    "threading.py": {"_wait_for_tstate_lock"},
    # devices in memory, on a loop whose time passes at once
    "tests/faulty_device.py": {"run_in_executor"},
    # tests that look at files while the component goes on
    "tests/unit/test_writer.py": {"story", "whole"},
}


def watched() -> BlockBuster:
    """Return what makes such calls of the package fail, once it is activated."""
    blockbuster = BlockBuster("telemetryd")
    for function in blockbuster.functions.values():
        for file, names in _ALLOWED.items():
            function.can_block_in(file, names)
    return blockbuster
