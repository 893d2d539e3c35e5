# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The part of scripts/bench that measures an instance with thousands of agents. Sourced there.
# shellcheck disable=SC2154  # the variables of scripts/bench

# Starts a temporary PostgreSQL server; for root it runs as another user. Sets $postgres_url.
start_postgres() {
  local programs user=() data
  programs=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
  [[ -x $programs/initdb ]] || return 1
  data=$(mktemp -d /tmp/keyagent-bench-pg.XXXXXX)
  if [[ $EUID -eq 0 ]]; then
    user=(setpriv --reuid postgres --regid postgres --clear-groups)
    chown postgres:postgres "$data"
  fi
  folders+=("$data")
  (cd / && quietly "${user[@]}" "$programs/initdb" -D "$data/data" -U keyagent -A trust -E UTF8 --locale=C.UTF-8) || return 1
  (cd / && exec "${user[@]}" "$programs/postgres" -D "$data/data" -k "$data" -h '' >"$work/postgres.log" 2>&1) &
  pids+=("$!")
  local try
  for try in $(seq 100); do
    if psql -X -q -h "$data" -U keyagent -d postgres -c 'CREATE DATABASE bench' >/dev/null 2>&1; then
      postgres_url=postgresql://keyagent@${data//\//%2F}/bench
      return
    fi
    sleep 0.1
  done
  say "  (PostgreSQL did not start after $try tries)"
  return 1
}

# measure_instance NAME URL: an instance on that store, with $agents agents.
measure_instance() {
  local name=$1 url=$2 instance_pid log=$work/$1.log
  cat >"$work/$name.yml" <<YML
id: bench
hosts: [127.0.0.1]
agent: {socket: $KEYAGENT_SOCKET}
store: {url: "$url"}
listen: {api: "127.0.0.1:0", agents: "127.0.0.1:0"}
YML
  chmod 0600 "$work/$name.yml"
  quietly "$instanced" --config "$work/$name.yml" user bench --role admin --password-file "$work/bench.pw"
  : >"$log"
  "$instanced" --config "$work/$name.yml" "${as_whom[@]}" >"$log" 2>&1 &
  instance_pid=$!
  pids+=("$instance_pid")
  for _ in $(seq 300); do
    if grep -q 'people on port' "$log" || ! kill -0 "$instance_pid" 2>/dev/null; then break; fi
    sleep 0.1
  done
  "$bin/instance_load" --name "instance-$name" --agents "$agents" --tasks "$agents" --pid "$instance_pid" --user bench \
    --password-file "$work/bench.pw" --api "https://127.0.0.1:$(sed -n 's/.*people on port \([0-9]*\),.*/\1/p' "$log")" \
    --fingerprint "$(sed -n 's/.*fingerprint \([A-Za-z0-9_-]*\).*/\1/p' "$log")" >>"$measures" \
    || { tail -n 5 "$log" >&2; say "  (instance_load on $name failed)"; }
  # Each record costs three operations of the token: opened, sealed, and opened again.
  "$bin/records_load" --name "instance-$name-reencrypt" --records "$records" --pid "$instance_pid" --user bench --id bench \
    --password-file "$work/bench.pw" --store "$url" --socket "$KEYAGENT_SOCKET" \
    --api "https://127.0.0.1:$(sed -n 's/.*people on port \([0-9]*\),.*/\1/p' "$log")" \
    --fingerprint "$(sed -n 's/.*fingerprint \([A-Za-z0-9_-]*\).*/\1/p' "$log")" >>"$measures" \
    || { tail -n 5 "$log" >&2; say "  (records_load on $name failed)"; }
  raw instance --name "instance-$name-aes" --op aes-gcm --id "$(cka_id data.bench)" --threads 4
  kill "$instance_pid" 2>/dev/null || true
  wait "$instance_pid" 2>/dev/null || true
}

bench_instance() {
  if [[ $(ulimit -n) -lt $((agents + 500)) ]]; then
    say "(only $(ulimit -n) files may be open here: too few for $agents agents; left out)"
    return
  fi
  new_token instance
  start_agent instance instance 8
  (umask 077 && head -c 18 /dev/urandom | base64 >"$work/bench.pw")
  measure_instance sqlite "sqlite://$work/instance-store/instance.db"
  if start_postgres; then
    measure_instance postgresql "$postgres_url"
  else
    say "(no PostgreSQL: left out)"
  fi
  stop_agent
}
