#!/bin/sh
# RabbitMQ 4.0.5, a quorum queue of 40 messages, all fetched with `basic.get` and given back by closing the channel.
#
# Expected: they are in their old order again, as the documentation of requeueing says where that is possible; nobody else
# reads the queue.
# Seen: another order. Of 8 messages it is kept; of 32 it is that of their delivery tags as text (1, 10, 11, …, 2, 20, …);
# of 40 it is none. RabbitMQ 3.10.8 does the same. Consuming in place of `basic.get` keeps the order.
# So a tool that looks at a queue in this way and wants the oldest first has to sort by itself.
set -eu

folder=$(mktemp -d)
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib/rabbitmq.sh"
trap 'stop_rabbitmq; rm -rf "$folder"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

start_rabbitmq trixie 4.0.5
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet pika==1.3.2 >&2
"$folder/env/bin/python" - "$url" <<'END'
import sys
import time

import pika

connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
QUEUE = "finding"


def wait_for(count):
    while connection.channel().queue_declare(QUEUE, passive=True).method.message_count != count:
        time.sleep(0.05)


def fill(count):
    channel = connection.channel()
    channel.queue_delete(QUEUE)
    channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    channel.confirm_delivery()
    for number in range(count):
        channel.basic_publish("", QUEUE, str(number).encode())
    wait_for(count)
    channel.close()


def take(count):
    channel = connection.channel()
    bodies = [int(channel.basic_get(QUEUE)[2]) for _ in range(count)]
    channel.close()
    wait_for(count)
    return bodies


def consume(count):
    channel = connection.channel()
    channel.basic_qos(prefetch_count=count)
    bodies = []
    for _, _, body in channel.consume(QUEUE, inactivity_timeout=5):
        bodies.append(int(body))
        if len(bodies) == count:
            break
    channel.close()
    wait_for(count)
    return bodies


kept = {}
for count in (8, 32, 40):
    fill(count)
    first, second = take(count), take(count)
    print(f"{count} fetched: {first[:6]} …, and once more: {second[:6]} …")
    kept[count] = first == list(range(count)) and second == first
fill(40)
consumed = consume(40) == consume(40) == list(range(40))
print(f"order kept after basic.get: {kept}, after consuming: {consumed}")
sys.exit(kept != {8: True, 32: False, 40: False} or not consumed)
END
