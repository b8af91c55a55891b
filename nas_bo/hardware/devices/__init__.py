"""Devices as plain data: the figures of each are in a TOML file beside this one."""
