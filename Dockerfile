# One image for the four services; which one runs is the command: services.router, services.cache, services.provider
# or services.inference. Envoy and Jaeger have their official images, Triton has deploy/triton/Dockerfile.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

# The project's own set-up, as on any machine: the locked packages and the embedding model, checked by hash.
FROM ${PYTHON_IMAGE} AS setup
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY scripts scripts
COPY services services
COPY gen gen
RUN --mount=type=cache,target=/root/.cache \
    python scripts/setup_packages.py \
    && .venv/bin/python scripts/setup_embedder.py \
    && .venv/bin/python scripts/runtime_lock.py > /runtime.lock

# The same packages again without the development tools.
FROM ${PYTHON_IMAGE} AS packages
COPY --from=setup /runtime.lock /runtime.lock
RUN --mount=type=cache,target=/root/.cache \
    python -m venv /opt/mycel \
    && /opt/mycel/bin/python -m pip install --no-deps --require-hashes -r /runtime.lock

FROM ${PYTHON_IMAGE} AS services
# Volumes take their owner from these folders.
RUN groupadd --gid 10001 mycel \
    && useradd --uid 10001 --gid mycel --no-create-home --home-dir /var/lib/mycel mycel \
    && install --directory --owner=mycel --group=mycel /var/lib/mycel /models
WORKDIR /app
COPY --from=packages /opt/mycel /opt/mycel
COPY --from=setup /app/.runtime/minilm .runtime/minilm
COPY models/handbook models/handbook
COPY gen gen
COPY services services
ENV PATH=/opt/mycel/bin:$PATH \
    PYTHONPATH=/app:/app/gen \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MYCEL_HOME=/var/lib/mycel
USER mycel
ENTRYPOINT ["python", "-m"]
CMD ["services.router"]
