# The demo, without anything on the machine:  docker build -t lm-eval-sts . && docker run --rm lm-eval-sts
# and any command:                            docker run --rm -v "$PWD:/work" lm-eval-sts lm-eval-sts show results/
FROM python:3.13-slim
# An index with CPU builds of torch; without it the build with CUDA is installed.
ARG PIP_EXTRA_INDEX_URL=
COPY . /tmp/source
RUN pip install --no-cache-dir --constraint /tmp/source/constraints.txt /tmp/source && rm -r /tmp/source
RUN useradd --create-home user && install --directory --owner user /work
USER user
WORKDIR /work
CMD ["lm-eval-sts", "demo"]
