"""A writer to be killed: appends windows of all levels to a store and prints what was acknowledged.

Run as ``python -m tests.storing_writer STORE COUNT``; it begins at the first window each time, as a
replay does that is run again.
"""

import sys

from telemetryd.store.columns import QualityRow
from telemetryd.store.embedded import Store
from tests.storing import BASE, S, window


def batch(number: int) -> list:  # type: ignore[type-arg]
    """Return the windows of the append ``number``: a second, and a roll-up after every tenth."""
    windows = [window(BASE + number * S, rows=20)]
    if number % 10 == 9:
        windows.append(window(BASE + (number - 9) * S, 10 * S, rows=20))
    return windows


def main() -> None:
    with Store.open(sys.argv[1]) as store:
        print("open", flush=True)
        for number in range(int(sys.argv[2])):
            store.append(batch(number), "capture", [QualityRow(BASE + number * S, S, "loss", "a", 1.0)])
            print(number, flush=True)


if __name__ == "__main__":
    main()
