// A client that never subscribes: argument 1 is the URL, 2 the client id, 3 the username, 4 the number of messages.
// Prints "connected", then each message as "topic payload".
const mqtt = require('mqtt')
const [url, clientId, username, count] = process.argv.slice(2)
const client = mqtt.connect(url, { protocolVersion: 5, reconnectPeriod: 0, clientId, username })
const fail = (e) => { console.error(e); process.exit(1) }
setTimeout(() => fail('timeout'), 30000)
client.on('error', fail)
let left = Number(count)
client.on('connect', () => console.log('connected'))
client.on('packetsend', (packet) => { if (packet.cmd === 'subscribe') fail('subscribes') })
client.on('message', (topic, payload) => {
  console.log(topic + ' ' + payload)
  if (--left === 0) client.end(false, {}, () => process.exit(0))
})
