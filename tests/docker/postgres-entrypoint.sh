#!/usr/bin/env bash
# The part of the official image's entry point that compose.yaml relies on: POSTGRES_USER,
# POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE, POSTGRES_DB, /docker-entrypoint-initdb.d/*.sql.
set -euo pipefail

initialise() {
    local user=${POSTGRES_USER:-postgres} password=${POSTGRES_PASSWORD:-}
    [ -z "${POSTGRES_PASSWORD_FILE:-}" ] || password=$(< "$POSTGRES_PASSWORD_FILE")
    [ -n "$password" ] || {
        echo "POSTGRES_PASSWORD is not set" >&2
        exit 1
    }
    initdb --username="$user" --pwfile=<(printf '%s\n' "$password") --auth-local=trust --auth-host=scram-sha-256
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    # No TCP yet: who waits for the port must not find a half-made server.
    pg_ctl -w -o "-c listen_addresses=''" start
    local db=${POSTGRES_DB:-$user} script
    [ "$db" = postgres ] || createdb --username="$user" --no-password "$db"
    for script in /docker-entrypoint-initdb.d/*.sql; do
        [ ! -e "$script" ] || psql -v ON_ERROR_STOP=1 --username="$user" --dbname="$db" --file="$script"
    done
    pg_ctl -w stop
}

if [ "$(id -u)" = 0 ]; then
    install -d -o postgres -g postgres -m 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups bash "${BASH_SOURCE[0]}" "$@"
fi
[ "${1:-}" = postgres ] || exec "$@"
[ -s "$PGDATA/PG_VERSION" ] || initialise
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
