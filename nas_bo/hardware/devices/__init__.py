"""Devices as plain data: the figures of each are in a TOML file next to this one."""
