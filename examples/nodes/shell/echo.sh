#!/usr/bin/env bash
# splitbrain run "launch:bash examples/nodes/shell/echo.sh" --workload echo
. "$(dirname "$0")/splitbrain_node.sh"

on_echo() {
  need "$1" echo && jq -c '{echo}' <<<"$1"
}

run
