# The collector's image: `docker build . -t cryptostore:latest`, with BuildKit and without.

FROM python:3.13-slim-trixie AS build
# cryptofeed has wheels for x86-64; on other machines it is compiled, here and here alone.
RUN if [ "$(uname -m)" != x86_64 ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends gcc libc6-dev \
        && rm -rf /var/lib/apt/lists/*; \
    fi \
    && pip install --no-cache-dir --root-user-action=ignore "uv>=0.9,<1"
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/collector \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /src
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-default-groups --no-install-project --extra collector --extra simulator
# The collector alone: the launcher and what it needs stay outside.
COPY collector /opt/collector/lib/python3.13/site-packages/collector
ARG REVISION
RUN printf '%s\n' "$REVISION" >/opt/collector/lib/python3.13/site-packages/collector/REVISION \
    && printf '#!/bin/sh\nexec python -m collector "$@"\n' >/opt/collector/bin/collector \
    && chmod +x /opt/collector/bin/collector \
    && /opt/collector/bin/python -m compileall -q /opt/collector/lib/python3.13/site-packages/collector

FROM python:3.13-slim-trixie
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="cryptostore collector" \
      org.opencontainers.image.description="Records the market data of one crypto exchange in a database you own." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# The base image has no bytecode of the standard library: every start and every health check would compile
# what it imports, which takes them two thirds of their time.
RUN python -m compileall -q -j 0 -x '/(site-packages|ensurepip|idlelib|pydoc_data|tkinter|turtledemo)/' \
        /usr/local/lib/python3.13
# New named volumes take their owner from these folders.
RUN groupadd --gid 10001 collector \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin collector \
    && install -d -o 10001 -g 10001 /spool /data /simulator
COPY --from=build /opt/collector /opt/collector
ENV PATH=/opt/collector/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SPOOL_DIR=/spool \
    PARQUET_DIR=/data
USER 10001:10001
# What was received and not yet stored outlives the container.
VOLUME /spool
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-m", "collector", "health"]
ENTRYPOINT ["python", "-m", "collector"]
