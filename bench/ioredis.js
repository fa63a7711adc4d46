// SPDX-License-Identifier: MIT
// ioredis, with auto-pipelining on one connection. measure.lua says how the program is called.
"use strict";

const Redis = require("ioredis");

const seconds = Number(process.env.BENCH_SECONDS || 0.5);
const workloads = new Map();
let redis;

const now = () => Number(process.hrtime.bigint()) / 1e9;

async function measure(name, step, run) {
  let n = step;
  let took;
  for (;;) {
    const start = now();
    await run(n);
    took = now() - start;
    if (took >= seconds / 5) break;
    n *= 2;
  }
  n = Math.max(step, Math.floor((n * seconds) / took / step) * step);
  const start = now();
  const size = await run(n);
  console.log(name, n, (now() - start).toFixed(9), Math.round(size / n));
}

function repeated(count, batch) {
  return [count, async (n) => {
    let size = 0;
    for (let i = 0; i < n; i += count) size += await batch();
    return size;
  }];
}

const key = "v:32";
const lengths = (list) => list.reduce((sum, value) => sum + value.length, 0);

for (const depth of [1, 10, 100, 1000]) {
  workloads.set(`get-${depth}`, repeated(depth, async () => {
    const asked = [];
    for (let i = 0; i < depth; i++) asked.push(redis.get(key));
    return lengths(await Promise.all(asked));
  }));
  workloads.set(`set-${depth}`, repeated(depth, async () => {
    const asked = [];
    for (let i = 0; i < depth; i++) asked.push(redis.set("w:32", "x".repeat(32)));
    if (!(await Promise.all(asked)).every((reply) => reply === "OK")) throw new Error("no OK");
    return depth * 32;
  }));
}

for (const count of [1000, 10000]) {
  workloads.set(`coroutines-${count}`, [count, async (n) => {
    const work = async () => {
      let size = 0;
      for (let i = 0; i < n / count; i++) size += (await redis.get(key)).length;
      return size;
    };
    const started = [];
    for (let i = 0; i < count; i++) started.push(work());
    return (await Promise.all(started)).reduce((a, b) => a + b);
  }]);
  workloads.set(`spawn-${count}`, repeated(count, async () => {
    const work = async () => (await redis.get(key)).length;
    const started = [];
    for (let i = 0; i < count; i++) started.push(work());
    return (await Promise.all(started)).reduce((a, b) => a + b);
  }));
}

for (const [name, length] of [["4k", 4096], ["64k", 65536], ["1m", 1048576]]) {
  workloads.set(`get-${name}`, repeated(1, async () => (await redis.getBuffer(`v:${length}`)).length));
  const value = Buffer.alloc(length, "x");
  workloads.set(`set-${name}`, repeated(1, async () => {
    if ((await redis.set(`w:${length}`, value)) !== "OK") throw new Error("no OK");
    return length;
  }));
}

workloads.set("list", repeated(1, async () => lengths(await redis.lrange("list", 0, -1))));
workloads.set("hash", repeated(1, async () => {
  const all = await redis.hgetall("hash");
  let size = 0;
  for (const field in all) size += field.length + all[field].length;
  return size;
}));

function total(value) {
  if (typeof value === "string") return value.length;
  return Array.isArray(value) ? value.reduce((sum, element) => sum + total(element), 0) : 0;
}
workloads.set("xrange", repeated(1, async () => total(await redis.xrange("stream", "-", "+"))));
workloads.set("docs", repeated(1, async () => total(await redis.call("COMMAND", "DOCS"))));

async function latency() {
  const samples = [];
  for (let i = 0; i < 12000; i++) {
    const start = now();
    if ((await redis.get(key)).length !== 32) throw new Error("a short value");
    if (i >= 2000) samples.push(now() - start);
  }
  samples.sort((a, b) => a - b);
  for (const [part, share] of [["50", 0.5], ["99", 0.99], ["999", 0.999]]) {
    console.log(`latency-p${part}`, 1, samples[Math.ceil(samples.length * share) - 1].toFixed(9), "-");
  }
}
workloads.set("latency", [0, latency]);

async function main() {
  const names = process.argv.slice(2);
  if (names[0] === "--list") return console.log([...workloads.keys()].join("\n"));
  redis = new Redis(Number(process.env.BENCH_PORT || 6379), "127.0.0.1", { enableAutoPipelining: true });
  for (const name of names) {
    const [step, run] = workloads.get(name);
    await (step ? measure(name, step, run) : run());
  }
  redis.disconnect();
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
