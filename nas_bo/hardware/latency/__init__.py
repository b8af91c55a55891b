"""Models of latency: the roofline, tables of measured blocks, learned corrections; and the profile of a device that holds them."""
