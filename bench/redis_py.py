# SPDX-License-Identifier: MIT
"""redis-py, with the parser of hiredis where that is installed. See measure.lua for how a program is called.
COMMAND DOCS is not here: that parser reads replies of up to seven levels only."""

import asyncio
import time

import redis

from measure import CA, HOST, PORT, TLS_PORT, main, percentiles, total

client = redis.Redis(HOST, PORT)
secure = redis.Redis("localhost", TLS_PORT, ssl=True, ssl_ca_certs=CA)


def gets(on, depth):
    async def run(n):
        size = 0
        for _ in range(n // depth):
            if depth == 1:
                size += len(on.get("v:32"))
                continue
            pipe = on.pipeline(transaction=False)
            for _ in range(depth):
                pipe.get("v:32")
            size += sum(map(len, pipe.execute()))
        return size

    return depth, run


def sets(depth):
    async def run(n):
        for _ in range(n // depth):
            if depth == 1:
                assert client.set("w:32", b"x" * 32)
                continue
            pipe = client.pipeline(transaction=False)
            for _ in range(depth):
                pipe.set("w:32", b"x" * 32)
            assert all(pipe.execute())
        return n * 32

    return depth, run


def repeated(ask):
    async def run(n):
        return sum(ask() for _ in range(n))

    return 1, run


def large_set(length):
    value = b"x" * length

    def ask():
        assert client.set("w:%d" % length, value)
        return length

    return ask


def multi():
    pipe = client.pipeline(transaction=True)
    results = pipe.set("m:1", "value").get("m:1").get("v:32").execute()
    return len(results[1]) + len(results[2])


def watch():
    with client.pipeline() as pipe:
        pipe.watch("v:32")
        value = pipe.get("v:32")
        pipe.multi()
        pipe.set("m:2", value)
        pipe.execute()
        return len(value)


MESSAGES = 10000
PUBLISH = "for i = 1, 10000 do redis.call('PUBLISH', 'channel', ARGV[1]) end"


async def messages(n):
    receiver = client.pubsub()
    receiver.subscribe("channel")
    receiver.get_message(timeout=1)
    publisher = redis.Connection(HOST, PORT)
    publisher.send_command("EVAL", PUBLISH, 0, b"m" * 100)
    size, left = 0, n
    for message in receiver.listen():
        size += len(message["data"])
        left -= 1
        if left % MESSAGES == MESSAGES - 1 and left > MESSAGES:
            publisher.send_command("EVAL", PUBLISH, 0, b"m" * 100)
        if not left:
            break
    receiver.close()
    publisher.disconnect()
    return size


async def latency(name):
    samples = []
    await gets(client, 1)[1](2000)
    for _ in range(10000):
        start = time.perf_counter()
        assert len(client.get("v:32")) == 32
        samples.append(time.perf_counter() - start)
    percentiles(name, samples)


workloads = {}
for depth in 1, 10, 100, 1000:
    workloads["get-%d" % depth] = gets(client, depth)
    workloads["set-%d" % depth] = sets(depth)
for suffix, length in ("4k", 4096), ("64k", 65536), ("1m", 1048576), ("64m", 67108864):
    workloads["get-" + suffix] = repeated(lambda length=length: len(client.get("v:%d" % length)))
    workloads["set-" + suffix] = repeated(large_set(length))
workloads["list"] = repeated(lambda: sum(map(len, client.lrange("list", 0, -1))))
workloads["hash"] = repeated(lambda: sum(len(k) + len(v) for k, v in client.hgetall("hash").items()))
workloads["xrange"] = repeated(lambda: total(client.xrange("stream")))
workloads["messages"] = MESSAGES, messages
workloads["multi"] = repeated(multi)
workloads["watch"] = repeated(watch)
workloads["latency"] = 0, latency
if TLS_PORT:
    for depth in 1, 100, 1000:
        workloads["tls-get-%d" % depth] = gets(secure, depth)
    workloads["tls-get-1m"] = repeated(lambda: len(secure.get("v:1048576")))

asyncio.run(main(workloads))
