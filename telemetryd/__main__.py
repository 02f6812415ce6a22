"""Run as ``python -m telemetryd``."""

from telemetryd.cli.main import main

main()
