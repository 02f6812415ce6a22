"""Protobuf modules, generated from proto/ by `setup.py build_proto` (part of every build), never committed."""
