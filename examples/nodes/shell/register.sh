#!/usr/bin/env bash
# A register service: the first node by name has the data, the others pass requests on.
#
#     splitbrain run "launch:bash examples/nodes/shell/register.sh" \
#         --concurrency 2 --op-timeout 10 --nemesis partition,kill,pause
#
# It is linearizable because one request is carried out at a time. Nothing is replicated, so
# nothing works while the owner is down or cut off: it is safe, but not available. Replace it by a
# protocol of your own, and let splitbrain tell you whether it is still linearizable.
. "$(dirname "$0")/splitbrain_node.sh"

OWNER=${NAMES[0]}

on_status() {
  local role=follower
  [[ $NAME == "$OWNER" ]] && role=leader
  jq -cn --arg role $role --arg leader "$OWNER" '{$role, term: 1, $leader}'
}

on_read() { carry_out get "$1" key; }
on_write() { carry_out put "$1" key value; }
on_cas() { carry_out compare_and_set "$1" key from to; }

# carry_out FUNCTION BODY FIELD...: carry out a request on the owner; one at a time, as that order is
# what makes it linearizable.
carry_out() {
  local function=$1 body=$2
  if [[ $NAME != "$OWNER" ]]; then
    call "$OWNER" "$body"
    return
  fi
  need "$body" "${@:3}" || return
  (
    flock 9
    "$function" "$body" "$DATA/$(jq -r '.key | tojson | @uri' <<<"$body")"
  ) 9>"$DATA/lock"
}

get() {
  if [[ -e $2 ]]; then
    jq -c '{value: .}' "$2"
  else
    fail 20 "there is no key $(jq -c .key <<<"$1")"
  fi
}

put() {
  keep .value "$1" "$2"
}

compare_and_set() {
  if [[ ! -e $2 ]]; then
    fail 20 "there is no key $(jq -c .key <<<"$1")"
  elif jq -e --slurpfile held "$2" '.from == $held[0]' <<<"$1" >/dev/null; then
    keep .to "$1" "$2"
  else
    fail 22 "expected $(jq -c .from <<<"$1"), but it is $(<"$2")"
  fi
}

# keep FIELD BODY FILE: durable first, visible second: what somebody has read must survive a kill.
# An error (13) leaves it open whether it does.
keep() {
  jq -c "$1" <<<"$2" >"$3.new" && sync "$3.new" && mv "$3.new" "$3" && sync "$DATA" && echo '{}'
}

# What a kill cut short is visible now; it must be durable before it is served.
[[ ${SPLITBRAIN_CONNECTION-} ]] || sync "$DATA"
run
