#!/bin/sh
# RabbitMQ 4.3 against 4.0.5: a user without any permission on a queue asks with a passive `queue.declare` whether it exists.
#
# Expected: the answer, as from every version before: AMQP 0-9-1 changes nothing with a passive declare, and 4.0.5 asks for no
# permission.
# Seen: 4.3 closes the channel with 403 ACCESS_REFUSED, for a queue that does not exist too (4.0.5: 404). So a client of few
# rights that looks whether somebody consumes a queue is refused after an upgrade.
set -eu

folder=$(mktemp -d)
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib/rabbitmq.sh"
trap 'stop_rabbitmq; rm -rf "$folder"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

python3 - >"$folder/definitions.json" <<'END'
import base64, hashlib, json

def user(name, tags=()):
    salt = b"salt"
    hashed = base64.b64encode(salt + hashlib.sha256(salt + name.encode()).digest()).decode()
    return {"name": name, "password_hash": hashed, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": list(tags)}

def rights(name, pattern):
    return {"user": name, "vhost": "/", "configure": pattern, "write": pattern, "read": pattern}

print(json.dumps({
    "vhosts": [{"name": "/"}],
    "users": [user("guest", ["administrator"]), user("plain")],
    "permissions": [rights("guest", ".*"), rights("plain", "")],
    "queues": [{"name": "there", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}],
}))
END
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet pika==1.3.2 >&2

ask() {
    start_rabbitmq "$1" "$2"
    "$folder/env/bin/python" - "$url" <<'END'
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1].replace("guest:guest", "plain:plain")))
for name in ("there", "absent"):
    try:
        connection.channel().queue_declare(name, passive=True)
        print(name, "answered", end="; ")
    except pika.exceptions.ChannelClosedByBroker as error:
        print(name, error.reply_code, end="; ")
END
    stop_rabbitmq
}

old=$(ask trixie 4.0.5)
new=$(ask forky 4.3)
echo "4.0.5: $old"
echo "4.3: $new"
[ "$old" = "there answered; absent 404; " ] && [ "$new" = "there 403; absent 403; " ]
