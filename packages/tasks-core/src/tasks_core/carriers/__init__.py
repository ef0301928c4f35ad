"""Carriers: each in a module of its own, which imports its engine.

``tasks_core.carriers.celery`` for instance, which ``tasks-core[celery]`` installs.
"""
