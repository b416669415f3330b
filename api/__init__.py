"""The HTTP API. `flask --app api run` and `gunicorn 'api:create_app()'` find the application here."""

from api.factory import create_app

__all__ = ["create_app"]
