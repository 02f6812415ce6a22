"""Allocations become the configuration of devices: capabilities, plans, drivers."""
