# veridice as a BIDS-App: docker run --rm -v DATA:/data:ro -v OUT:/out veridice /data /out participant
FROM python:3.11-slim

# Another build of torch, with CUDA say, is given as --build-arg TORCH="torch==2.13.0+cu130".
ARG TORCH=torch==2.13.0
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 MPLBACKEND=Agg VERIDICE_CACHE=/tmp/veridice

WORKDIR /opt/veridice
COPY requirements.lock pyproject.toml README.md LICENSE ./
# hadolint ignore=DL3013
RUN pip install "$TORCH" && pip install --no-deps -r requirements.lock
COPY src src
COPY scripts/pack_viewer scripts/
RUN python scripts/pack_viewer && pip install --no-deps --no-build-isolation . && useradd --create-home --uid 1000 veridice

USER 1000
WORKDIR /tmp
ENTRYPOINT ["veridice", "run"]
CMD ["--help"]
