"""Targets: adding one is adding a folder. A chosen program enters, something that can be called leaves."""
