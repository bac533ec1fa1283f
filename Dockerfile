# Trunkline on TensorRT. The image's tag is that of a release of NVIDIA's; take one that the host's driver runs.
#
#   docker build -t trunkline .
#   docker run --rm --gpus all -v trunkline-cache:/cache -v "$PWD":/site trunkline run /site/camera.toml
ARG TENSORRT=25.10-py3
FROM nvcr.io/nvidia/tensorrt:${TENSORRT}

# Engines that were built are kept here: mount a volume.
ENV XDG_CACHE_HOME=/cache PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/trunkline

# TensorRT is in the image; the extra would install it once more. The lock (make lock) stands above constraints of the image.
COPY requirements-tensorrt.lock ./
RUN PIP_CONSTRAINT= pip install --require-hashes --requirement requirements-tensorrt.lock
COPY pyproject.toml README.md LICENSE ./
COPY engines engines
COPY pipeline pipeline
COPY tools tools
COPY configs configs
RUN pip install --no-deps --no-build-isolation . \
 && useradd --uid 10001 --create-home trunkline && mkdir /cache && chown trunkline /cache
USER 10001
VOLUME /cache
ENTRYPOINT ["trunkline"]
CMD ["doctor"]
