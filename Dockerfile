# Wattline as nobody on a read-only root:
#   docker build -t wattline .
#   docker run --rm --read-only wattline plan /opt/examples/llama-70b-training.toml
#   docker run --rm --read-only -p 8080:8080 wattline web --host 0.0.0.0 --port 8080 --token SECRET
FROM python:3.13-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python -m venv /opt/wattline \
    && /opt/wattline/bin/pip install --no-cache-dir --require-hashes -r /src/requirements.lock \
    && /opt/wattline/bin/pip install --no-cache-dir --no-deps /src

FROM python:3.13-slim
COPY --from=build /opt/wattline /opt/wattline
COPY examples /opt/examples
ENV PATH=/opt/wattline/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER nobody
ENTRYPOINT ["wattline"]
CMD ["--help"]
