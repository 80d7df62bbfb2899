# Stand-in for the official rust image: see base-images.sh.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential ca-certificates curl git libssl-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
# The host may reach its package sources through an authority that Debian does not know.
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ADD toolchain.tar /usr/local/
ENV CARGO_HOME=/usr/local/cargo
CMD ["bash"]
