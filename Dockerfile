# The first stage installs and builds, the last one only runs: no compiler, no pip cache, no source tree.
FROM python:3.13-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /build

# Dependencies change less often than the program, so they have a layer of their own.
# Of the development packages only the build backend is installed, with its pinned hashes.
COPY .requirements/ .requirements/
RUN python -m venv /srv/tidegauge/venv \
 && /srv/tidegauge/venv/bin/pip install --require-hashes --requirement .requirements/runtime.txt \
 && /srv/tidegauge/venv/bin/pip install --require-hashes --no-deps --requirement .requirements/assets.txt \
 && awk '/^[a-z]/ {wanted = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/} wanted' \
        .requirements/dev.txt > builder.txt \
 && python -m venv builder \
 && builder/bin/pip install --require-hashes --requirement builder.txt

COPY LICENSE README.md pyproject.toml ./
COPY migrations/ migrations/
COPY app/ app/
RUN builder/bin/hatchling build --target wheel \
 && /srv/tidegauge/venv/bin/pip install --no-deps --no-index dist/*.whl \
 && /srv/tidegauge/venv/bin/pip uninstall --yes pip

FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="Tidegauge" \
      org.opencontainers.image.description="Sensor readings in, trends, alerts and a live feed out" \
      org.opencontainers.image.licenses="MIT"
ENV HOST=0.0.0.0 \
    PATH=/srv/tidegauge/venv/bin:$PATH \
    PORT=8000 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RULES_DIR=/srv/tidegauge/rules
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /srv/tidegauge --shell /usr/sbin/nologin tidegauge \
 # A volume that is mounted here belongs to this user, too.
 && install --directory --owner=tidegauge --group=tidegauge /srv/tidegauge/data
COPY --from=build /srv/tidegauge/venv /srv/tidegauge/venv
COPY rules/ /srv/tidegauge/rules/
WORKDIR /srv/tidegauge
USER 10001:10001
EXPOSE 8000

# Checks liveness only, so that a database that is away does not restart a healthy server. Uses no proxy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['PORT'] + '/health/live', timeout=4)"]

ENTRYPOINT ["tidegauge"]
CMD ["serve"]
