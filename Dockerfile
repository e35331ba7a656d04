# The operator's image: one static program, and the certificates of public CAs. It runs without root.
# `make image` builds it for a release. `make image-tar` builds the same image without Docker: it runs the same script and reads the last stage here.
# The default is for trying; a release names the image by digest (NAME@sha256:...), which `make image` insists on.
ARG BUILD_IMAGE=rust:1.95-bookworm

FROM ${BUILD_IMAGE} AS build
# The list of dependencies goes into the program, for scanners.
RUN cargo install --quiet --locked --version 0.7.7 cargo-auditable
WORKDIR /src
COPY . .
# The commit, for the metric usercert_build_info.
ARG REVISION
ENV USERCERT_OPERATOR_REVISION=${REVISION}
RUN cargo auditable rustc --locked --release --package usercert-operator --bin usercert-operator -- -C target-feature=+crt-static
RUN image/root.sh target/release/usercert-operator /root-of-image

FROM scratch
COPY --from=build /root-of-image/ /
USER 65532:65532
ENTRYPOINT ["/usercert-operator"]
