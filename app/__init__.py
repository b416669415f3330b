"""The application: settings, plumbing, and the verbs on tasks, agents and keys.

`celery -A app …` finds `app.celery`; this package must not name an attribute `celery`.
"""
