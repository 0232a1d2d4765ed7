# The service in a container:
#     docker build --tag care .
#     docker run --publish 3000:3000 care
# scripts/mirror-dockerfile.sh does these steps where there is no Docker.

FROM python:3.11-slim

# serve-cpu, or serve for NVIDIA GPUs; one ONNX Runtime, never both
ARG EXTRA=serve-cpu

# what opencv-python links to
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 libxcb1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
# First what others wrote: a change of ours does not fetch it again.
RUN pip install --no-cache-dir --constraint constraints.txt --editable ".[$EXTRA,batch]"
COPY imaging/ imaging/
COPY models/ models/
COPY service/ service/
COPY training/ training/
COPY cli/ cli/
RUN pip install --no-cache-dir --no-deps --editable .

RUN useradd --create-home care
USER care

EXPOSE 3000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:3000/livez', timeout=5)"]
CMD ["care", "serve"]
