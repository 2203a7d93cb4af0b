// Writes with the official client for JavaScript, as it does by itself: {"readings": [[ms, n], ...]} or {"poison": text}
// a line on standard input. It ends when standard input does and everything is written.
import { InfluxDB, Point } from "@influxdata/influxdb-client";
import { createInterface } from "node:readline";

const [url, token, sensor] = process.argv.slice(2);
const retries = { minRetryDelay: 100, maxRetryDelay: 1_000, retryJitter: 0, maxRetries: 100, maxRetryTime: 120_000 };
const writer = new InfluxDB({ url, token, timeout: 10_000 }).getWriteApi("any", "any", "ms", { ...retries, flushInterval: 0, gzipThreshold: 1e9 });

for await (const line of createInterface({ input: process.stdin })) {
  const given = JSON.parse(line);
  if (given.poison !== undefined) writer.writeRecord(given.poison);
  for (const [ms, n] of given.readings ?? [])
    writer.writePoint(new Point("n").tag("sensor", sensor).floatField("value", n).timestamp(ms));
  // What cannot be written now is kept for a retry, or dropped where the server refuses it.
  await writer.flush().catch(() => {});
  console.log("written");
}
await writer.close().catch(() => {});
