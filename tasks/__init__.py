"""Celery tasks: one thin module a task, each calling one function of `qbot.pipeline`."""
