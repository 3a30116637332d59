# One image for every QBot process. Built from the locked requirements; runs as a user without rights.
FROM python:3.11-slim AS build
WORKDIR /app
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY requirements.lock ./
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md beat_schedule.py ./
COPY qbot qbot
COPY tasks tasks
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin qbot \
    && mkdir -p /data /acl && chown 10001:10001 /data && chown 999:1000 /acl && chmod 700 /acl
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 QBOT_HOME=/data HOME=/tmp REMAP_SIGTERM=SIGQUIT
USER 10001:10001
WORKDIR /data
VOLUME /data
CMD ["qbot", "--help"]
