# The operator's image: one binary and the certificates of public CAs. It runs without root. `make image` builds it for a release.
# The defaults are for trying; a release names both images by digest (NAME@sha256:...), which `make image` insists on.
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release --package usercert-operator

FROM ${BASE_IMAGE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/usercert-operator /usercert-operator
USER 65532:65532
ENTRYPOINT ["/usercert-operator"]
