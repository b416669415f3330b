"""Celery jobs by role, the sandboxes, and the clock."""
