"""Django's settings, from the same environment as everything else. Django owns its users and the beat schedule."""

from qbot.errors import ConfigError
from qbot.settings import settings

_values = settings()

SECRET_KEY = _values.django_secret_key.get_secret_value()
if not SECRET_KEY:
    raise ConfigError("QBOT_DJANGO_SECRET_KEY is empty; `qbot up` makes one, elsewhere set a long random value")

DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django_celery_beat"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _values.postgres_host,
        "PORT": _values.postgres_port,
        "USER": _values.postgres_user,
        "PASSWORD": _values.postgres_password.get_secret_value(),
        "NAME": _values.postgres_db,
        "OPTIONS": {"connect_timeout": 5, "application_name": "qbot-django"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
DJANGO_CELERY_BEAT_TZ_AWARE = True
LOGGING_CONFIG = None  # qbot.log
