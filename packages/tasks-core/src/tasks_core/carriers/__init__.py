"""Carriers: each in a module of its own, which imports its engine.

``tasks_core.carriers.celery``, ``.taskiq`` and ``.docket``; install ``tasks-core[celery]`` and so on.
"""
