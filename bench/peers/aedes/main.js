// Serves MQTT with aedes: node main.js TCP-PORT WEBSOCKET-PORT.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTCP } from 'node:net'
import { Aedes } from 'aedes'
import { WebSocketServer, createWebSocketStream } from 'ws'

const [tcp, web] = process.argv.slice(2).map(Number)
if (!web) {
  const version = (name) =>
    JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version
  console.log(`aedes ${version('aedes')}, ws ${version('ws')}, node ${process.version}`)
  process.exit()
}
const host = '127.0.0.1'
const aedes = await Aedes.createBroker({
  concurrency: 1000, queueLimit: 10000, maxClientsIdLength: 256, maxInflightInbound: 0
})
createTCP({ noDelay: true }, (c) => aedes.handle(c)).listen(tcp, host, 4096)
const server = createServer()
new WebSocketServer({ server, perMessageDeflate: false, handleProtocols: () => 'mqtt' })
  .on('connection', (c, request) => aedes.handle(createWebSocketStream(c), request))
server.listen(web, host, 4096)
for (const name of ['SIGTERM', 'SIGINT']) process.on(name, () => process.exit())
