# The wire of splitbrain (WIRE.md) for nodes in bash: copy this file beside yours.
#
#     . "$(dirname "$0")/splitbrain_node.sh"
#
#     on_echo() { need "$1" echo && jq -c '{echo}' <<<"$1"; }
#
#     run
#
# Needs bash, jq and socat. Requests of type T are answered by the function on_T: it gets the body
# as JSON, and prints that of the answer, whose type is filled in. `fail CODE TEXT` prints an error;
# printing nothing is error 13 (crash), which leaves open whether the operation happened.
# Each connection is a process of its own: guard what they share, with `flock`.
#
# It is slow, some dozens of requests a second, and jq 1.6 rounds numbers beyond 2^53.

NAME=$SPLITBRAIN_NODE
DATA=$SPLITBRAIN_DATA
# The names of all nodes, sorted.
mapfile -t NAMES < <(jq -r --arg me "$NAME" '[$me, keys[]] | sort[]' <<<"$SPLITBRAIN_PEERS")

# fail CODE TEXT: the body of an error; the code says whether anything may have happened.
fail() {
  jq -cn --argjson code "$1" --arg text "$2" '{type: "error", $code, $text}'
}

# need BODY FIELD...: true if the body has these fields; else the error that says which it lacks.
need() {
  local body=$1 field
  shift
  for field; do
    jq -e --arg field "$field" 'has($field)' <<<"$body" >/dev/null && continue
    fail 12 "there is no $field in the request"
    return 1
  done
}

# call PEER BODY: the peer's answer; or the error 11, if it can't be reached, and 0, if nobody
# knows whether it got the request.
call() {
  local address answer complaint
  address=$(jq -r --arg peer "$1" '.[$peer]' <<<"$SPLITBRAIN_PEERS")
  complaint=$(mktemp)
  answer=$(jq -c --arg src "$NAME" --arg dest "$1" '{$src, $dest, body: .}' <<<"$2" |
    socat -t 1.5 - "TCP:$address,connect-timeout=1" 2>"$complaint" | jq -c .body 2>/dev/null)
  if [[ $answer ]]; then
    printf '%s\n' "$answer"
  elif grep -q 'E connect(' "$complaint"; then
    fail 11 "$1 can't be reached"
  else
    fail 0 "$1 did not answer"
  fi
  rm -f "$complaint"
}

on_clock() {
  local uptime_s wall_ns=${EPOCHREALTIME/[.,]/}000
  read -r uptime_s _ </proc/uptime
  jq -cn --argjson wall_ns "$wall_ns" --arg up "$uptime_s" \
    '{$wall_ns, mono_ns: ($up | tonumber * 1e9 | floor)}'
}

# answer LINE: the line that answers a request; nothing if it is no message.
answer() {
  local asked=() body kind
  # Whether it is a message, its type, and its body: each a line, as JSON has none in it.
  mapfile -t asked < <(jq -c 'select((.src | type == "string") and (.body.type | type == "string")
    and (.body.msg_id | type == "number")) | .body.type, .body, .' <<<"$1" 2>/dev/null)
  ((${#asked[@]} == 3)) || return
  kind=$(jq -r 'gsub("[^a-z_]"; "?")' <<<"${asked[0]}")
  if [[ $(type -t "on_$kind") == function ]]; then
    body=$("on_$kind" "${asked[1]}")
    [[ $body ]] || body=$(fail 13 "on_$kind printed nothing")
  else
    body=$(fail 10 "$kind is not supported")
  fi
  jq -c --arg me "$NAME" --argjson answer "$body" '{src: $me, dest: .src,
    body: ({type: (.body.type + "_ok")} + $answer + {in_reply_to: .body.msg_id})}' <<<"${asked[2]}"
}

# run: serve clients and peers until killed. socat starts this script again for each connection.
run() {
  local line
  if [[ ! ${SPLITBRAIN_CONNECTION-} ]]; then
    local host=${SPLITBRAIN_LISTEN%:*} port=${SPLITBRAIN_LISTEN##*:}
    export SPLITBRAIN_CONNECTION=1
    exec socat -t 10 "TCP-LISTEN:$port,bind=$host,reuseaddr,nodelay,backlog=128,fork" "EXEC:bash $0"
  fi
  while IFS= read -r line; do
    answer "$line"
  done
}
