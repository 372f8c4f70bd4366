#!/bin/sh
# The two lines with which people look into a socket. wscat comes from npm, and leaves when its own input ends.
#   wscat.sh JOB_ID [HOST:PORT]
set -eu
server=${2:-127.0.0.1:8328}
wscat -c "ws://$server/ws/$1" -x '{"type": "ping"}' -w "${WSCAT_SECONDS:-10}"
wscat -c "ws://$server/ws/monitor" -x '{"type": "ping"}' -w "${WSCAT_SECONDS:-10}"
