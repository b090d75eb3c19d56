# The bridge as an image: a wheel made from these sources, on packages whose hashes are locked.
# Nothing of the builder but the finished folder /opt/broadcast goes into it: no node, no pip, no compiler.

FROM python:3.13-slim AS builder
# An image without the page must not come to be, whatever npm does.
ENV BROADCAST_REQUIRE_WEB=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
RUN python -m venv --without-pip /opt/broadcast
# Before the sources, so that a change of these does not fetch the packages again.
COPY requirements/server.lock requirements/
RUN python -m pip --python /opt/broadcast/bin/python install --require-hashes --only-binary :all: -r requirements/server.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src src
COPY web web
COPY examples/mind examples/mind
# Node and npm come as a wheel, named in pyproject.toml.
RUN python -m pip wheel --no-deps --wheel-dir /wheels .
RUN python -m pip --python /opt/broadcast/bin/python install --no-deps --no-index --find-links /wheels v5-broadcast

FROM python:3.13-slim
COPY --from=builder /opt/broadcast /opt/broadcast
# The file system is read-only in compose.yaml: everything is compiled already, and logs must not wait in a buffer.
ENV PATH=/opt/broadcast/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# A number and no name: it needs no entry in /etc/passwd, and an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 5001
CMD ["broadcast", "serve"]
