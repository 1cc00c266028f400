# Stage 1 builds the wheel, stage 2 holds nothing but Python, that wheel and what it needs.
FROM python:3.12-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE MANIFEST.in ./
COPY ext ext
COPY pyraft_fast pyraft_fast
RUN pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:3.12-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-index --find-links /wheels pyraft-fast \
    && rm -rf /wheels \
    && useradd --system --create-home --uid 10001 raft \
    && mkdir /data \
    && chown raft:raft /data
USER raft
VOLUME /data
WORKDIR /data
EXPOSE 5010 5011
STOPSIGNAL SIGTERM
# The same flags as `pyraft-fast`; without any, a cluster of one under the container's own address.
ENTRYPOINT ["pyraft-fast", "--dir", "/data"]
CMD ["-a", ":5010", "-i", "HOSTNAME"]
