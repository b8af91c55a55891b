# nas_bo on a CPU:
#   docker build -t nas-bo --build-arg TORCH_INDEX=<address of PyTorch's index for CPUs> .
#   docker run --rm -v "$PWD:/work" nas-bo search
# Without the argument torch comes from the usual index, with gigabytes of CUDA. Not built by CI, which has no Docker.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE MANIFEST.in CHANGELOG.md CITATION.cff SECURITY.md constraints.txt ./
COPY nas_bo nas_bo
RUN pip install --no-cache-dir build && python -m build --wheel

FROM python:3.12-slim
COPY --from=build /source/dist/*.whl /tmp/
ARG TORCH_INDEX=""
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.6,<3" \
 && pip install --no-cache-dir /tmp/*.whl && rm /tmp/*.whl
RUN useradd --create-home search
USER search
WORKDIR /work
ENV NAS_BO_CACHE=/home/search/.cache/nas_bo
ENTRYPOINT ["nas-bo"]
