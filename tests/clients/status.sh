#!/bin/sh
# The queries with which operators look after the old system.
#   status.sh [HOST:PORT]
set -eu
server=http://${1:-127.0.0.1:8328}
curl -fsS "$server/api/anime/websocket/status" | jq -e '.status == "healthy" and .websocket_manager == "active"'
curl -fsS "$server/api/anime/websocket/status" | jq -e '.connections.total_connections >= 0'
curl -fsS "$server/api/anime/websocket/status" | jq -e '.connections.connection_details | type == "object"'
curl -fsS "$server/api/anime/websocket/status" | jq .connections
curl -fsS "$server/api/anime/websocket/status" | jq -r '.endpoints[]'
curl -fsS "$server/api/anime/health" | jq -e '.status == "healthy" or .status == "degraded"'
curl -fsS "$server/api/anime/health" | jq .components
