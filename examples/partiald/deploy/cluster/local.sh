#!/usr/bin/env bash
# Three servers that share their work, on this machine, for trying out: pages at ports 8081, 8082 and 8083. Run it from
# the root of the repository and stop it with Ctrl-C; kill one of the three meanwhile and see what happens.
set -euo pipefail
dir=${1:-$(mktemp -d)}
mkdir -p "$dir/objects"
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
trap exit INT TERM
go build -o "$dir/" ./examples/partiald ./examples/storage-dir
export PARTIALD_QUEUE_CLUSTER_ROUTES=127.0.0.1:6221,127.0.0.1:6222,127.0.0.1:6223 PARTIALD_QUEUE_ACK_WAIT=5s
export PARTIALD_STORAGE_COMMAND=$dir/storage-dir PARTIALD_STORAGE_ARGS=$dir/objects
PARTIALD_STORAGE_SHA256=$(sha256sum "$dir/storage-dir" | cut -d' ' -f1)
export PARTIALD_STORAGE_SHA256
for i in 1 2 3; do
  PARTIALD_NAME=up-$i PARTIALD_QUEUE_CLUSTER_LISTEN=127.0.0.1:622$i \
    "$dir/partiald" --data "$dir/up-$i" --listen "127.0.0.1:808$i" 2>"$dir/up-$i.log" &
  echo "up-$i: http://127.0.0.1:808$i/, process $!, log $dir/up-$i.log"
done
wait
