# The operator's image: one binary and the certificates of public CAs.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --package usercert-operator

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/usercert-operator /usercert-operator
USER 65532:65532
ENTRYPOINT ["/usercert-operator"]
