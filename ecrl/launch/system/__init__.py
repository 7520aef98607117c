"""Processes, signals, devices and disks of this machine."""
