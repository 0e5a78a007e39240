# Sourced by scripts: start_rabbitmq SUITE VERSION unpacks rabbitmq-server of a Debian suite into $folder and starts it on
# 127.0.0.1:$port, entered by chroot in a mount namespace of its own. Needs root, apt and unshare. Sets $url.

configured_mirror() {
    apt-get --option Dir::State="$folder/none" update --print-uris | sed -nE "s|^'([^']*)/dists/[a-z]+/InRelease.*|\1|p" | head -1
}

start_rabbitmq() {
    suite=$1 version=$2 root="$folder/root-$1" state="$folder/apt-$1"
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    mkdir -p "$root" "$state/lists/partial" "$state/archives/partial"
    : >"$state/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(configured_mirror) $suite main" >"$state/sources"
    cat >"$state/conf" <<END
Dir::State "$state"; Dir::State::status "$state/status"; Dir::Cache::archives "$state/archives";
Dir::Etc::sourcelist "$state/sources"; Dir::Etc::sourceparts "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
APT::Install-Recommends "false"; APT::Sandbox::User "";
END
    apt-get --config-file="$state/conf" -qq update
    # Without a dpkg status apt takes essential packages for given, so those that the start scripts call are named.
    apt-get --config-file="$state/conf" -qq --yes --download-only install "rabbitmq-server=$version*" base-files \
        base-passwd bash coreutils dash grep libc-bin sed >/dev/null
    dpkg-deb --extract "$state"/archives/base-files_*.deb "$root"
    for package in "$state"/archives/*.deb; do dpkg-deb --extract "$package" "$root"; done
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    echo "127.0.0.1 localhost $(hostname)" >"$root/etc/hosts"
    mkdir -p "$root/dev" "$root/proc" "$root/data"
    cat >"$root/data/rabbitmq.conf" <<END
listeners.tcp.local = 127.0.0.1:$port
END
    # More users, in the form of an export of definitions, where a script has written them.
    [ ! -f "$folder/definitions.json" ] || {
        cp "$folder/definitions.json" "$root/data/definitions.json"
        echo "load_definitions = /data/definitions.json" >>"$root/data/rabbitmq.conf"
    }
    server=$(cd "$root" && ls -d usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server)
    unshare --mount --pid --fork --kill-child --propagation private -- sh -c "
        mount --rbind /dev '$root/dev' && mount -t proc proc '$root/proc' &&
        exec chroot '$root' env HOME=/data RABBITMQ_NODENAME=finding-$port@localhost RABBITMQ_MNESIA_BASE=/data \
            RABBITMQ_LOG_BASE=/data RABBITMQ_CONFIG_FILE=/data/rabbitmq.conf RABBITMQ_DIST_PORT=$((port + 20000 > 65535 ? port - 20000 : port + 20000)) \
            ERL_EPMD_PORT=$((port + 10000 > 65535 ? port - 10000 : port + 10000)) ERL_EPMD_ADDRESS=127.0.0.1 \
            RABBITMQ_ENABLED_PLUGINS_FILE=/data/plugins '/$server'" >"$folder/rabbitmq.log" 2>&1 &
    server_pid=$!
    url="amqp://guest:guest@127.0.0.1:$port/"
    python3 - "$port" <<'END' || { tail -5 "$folder/rabbitmq.log" >&2; exit 1; }
import socket, sys, time
for _ in range(600):
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
            s.sendall(b"AMQP\x00\x00\x09\x01")
            if s.recv(1):
                sys.exit(0)
    except OSError:
        pass
    time.sleep(0.1)
sys.exit("RabbitMQ did not start")
END
}

stop_rabbitmq() {
    [ -z "${server_pid:-}" ] || { kill -KILL "$server_pid" 2>/dev/null || true; wait "$server_pid" 2>/dev/null || true; }
    server_pid=
}
