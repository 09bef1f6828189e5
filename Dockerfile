# facekit serve in a container: docker build -t facekit-serve . && docker run --rm -p 127.0.0.1:8000:8000 facekit-serve
# docs/serve.md says more.
FROM python:3.11-slim AS build
WORKDIR /build
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY facekit facekit
COPY model_templates model_templates
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(ls /wheels/facekit-*.whl)[serve]" && rm -rf /wheels
# Nothing is written but to the cache; the file system may be read-only (docker run --read-only --tmpfs /tmp).
ENV FACEKIT_CACHE=/tmp/facekit PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["facekit", "serve", "--host", "0.0.0.0", "--log", "json"]
