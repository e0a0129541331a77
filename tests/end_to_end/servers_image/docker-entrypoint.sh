#!/bin/sh
# What the public images' entrypoints do: root makes the folders the server's, and becomes the server's user.
set -eu

if [ "$(id -u)" = 0 ]; then
    case $1 in
    redis-server) user=redis folder=/data ;;
    postgres) user=postgres folder=$PGDATA && mkdir -p "$PGDATA" && chmod 700 "$PGDATA" ;;
    esac
    find "$folder" ! -user "$user" -exec chown "$user" '{}' +
    exec setpriv --reuid "$user" --regid "$user" --clear-groups "$0" "$@"
fi

if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username "$POSTGRES_USER" --pwfile "$POSTGRES_PASSWORD_FILE" --auth-local trust --auth-host scram-sha-256
    pg_ctl --wait --options "-c listen_addresses=''" start
    createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl --wait --mode fast stop
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
fi
exec "$@"
