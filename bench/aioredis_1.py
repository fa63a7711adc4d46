# SPDX-License-Identifier: MIT
"""aioredis 1, all on one connection. See measure.lua for how a program is called."""

import asyncio

import aioredis

from measure import HOST, PORT, main

client = None


def gets(depth):
    async def run(n):
        size = 0
        for _ in range(n // depth):
            size += sum(map(len, await asyncio.gather(*[client.get("v:32") for _ in range(depth)])))
        return size

    return depth, run


def sets(depth):
    async def run(n):
        for _ in range(n // depth):
            assert all(await asyncio.gather(*[client.set("w:32", b"x" * 32) for _ in range(depth)]))
        return n * 32

    return depth, run


def coroutines(count):
    async def run(n):
        async def work():
            size = 0
            for _ in range(n // count):
                size += len(await client.get("v:32"))
            return size

        return sum(await asyncio.gather(*[work() for _ in range(count)]))

    return count, run


def spawn(count):
    async def work():
        return len(await client.get("v:32"))

    async def run(n):
        size = 0
        for _ in range(n // count):
            size += sum(await asyncio.gather(*[work() for _ in range(count)]))
        return size

    return count, run


workloads = {}
for depth in 1, 10, 100, 1000:
    workloads["get-%d" % depth] = gets(depth)
    workloads["set-%d" % depth] = sets(depth)
for count in 1000, 10000:
    workloads["coroutines-%d" % count] = coroutines(count)
    workloads["spawn-%d" % count] = spawn(count)


async def start():
    global client
    import sys

    if "--list" not in sys.argv[1:]:
        client = await aioredis.create_redis((HOST, PORT))
    await main(workloads)


asyncio.run(start())
