"""Network telemetry and bandwidth-policy daemon for a city's e-government extranet."""

__version__ = "0.1.0"
