# An image of show1 with its server. It builds from the pinned versions; with a folder of wheels, without a network:
#   pip download -d wheels -c constraints.txt '.[server,postgres]' hatchling && docker build -t show1 .
# A server that computes too lets in who has a key, so that it needs one before it starts:
#   docker run --rm -v show1:/data show1 keys add me
#   docker run -p 127.0.0.1:8000:8000 -v show1:/data show1
# The files of jobs in a bucket (--store s3://...) need: docker build --build-arg EXTRAS=server,postgres,s3 -t show1 .
FROM python:3.11-slim AS build
ARG EXTRAS=server,postgres
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
# `wheels` may be missing; the wildcard lets the copy succeed without it.
COPY wheel[s] wheels/
RUN python -m venv /venv \
    && if [ -d wheels ]; then set -- --no-index --find-links wheels; else set --; fi \
    && /venv/bin/pip install --no-cache-dir "$@" -c constraints.txt ".[$EXTRAS]"

FROM python:3.11-slim
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 SHOW1_DATA=/data SHOW1_CACHE=/data/cache HF_HOME=/data/hub
RUN useradd --create-home --uid 1000 show1 && mkdir /data && chown show1 /data
USER 1000
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["show1"]
CMD ["serve", "--host", "0.0.0.0", "--log", "json"]
