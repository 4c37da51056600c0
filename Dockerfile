# unet-med, with the versions of constraints.txt:
#
#     docker build --tag unet-med .
#     docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" unet-med predict ...
#
# TORCH_INDEX chooses the build of torch, by the address of an index that has it; pytorch.org lists
# one for CPUs alone (a tenth of the size) and one for each version of CUDA. Without it torch is what
# the default index has: on Linux a build for CUDA, which runs on CPUs as well.
#
#     docker build --build-arg TORCH_INDEX=... --tag unet-med .
#     docker run --gpus all --ipc=host ...
FROM python:3.11-slim
ARG TORCH_INDEX=
WORKDIR /opt/unet-med
COPY . .
RUN python -m pip install --no-cache-dir --upgrade "pip>=25.1"
RUN python -m pip install --no-cache-dir --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.13.0
RUN python -m pip install --no-cache-dir --constraint constraints.txt ".[track,dicom,zarr]"
# --user gives a number, and MONAI asks for a name
ENV MPLCONFIGDIR=/tmp PYTHONUTF8=1 USER=unet-med
WORKDIR /work
ENTRYPOINT ["unet-med"]
CMD ["--help"]
