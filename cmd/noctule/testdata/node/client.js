// Exercises a broker with MQTT.js: argument 1 is the URL, 2 the protocol version. Prints OK or fails.
const mqtt = require('mqtt')
const [url, version] = process.argv.slice(2)
const options = { protocolVersion: Number(version), rejectUnauthorized: false, reconnectPeriod: 0, clientId: 'js' + version }
if (version === '3') options.protocolId = 'MQIsdp'
const big = 'x'.repeat(300000)
const want = []
for (const qos of [0, 1, 2]) want.push(['js/' + qos, 'hello' + qos], ['js/' + qos, big])
const client = mqtt.connect(url, options)
const fail = (e) => { console.error(e); process.exit(1) }
setTimeout(() => fail('timeout'), 15000)
client.on('error', fail)
const got = []
client.on('message', (topic, payload) => {
  got.push([topic, payload.toString()])
  if (got.length < want.length) return
  const sort = (l) => JSON.stringify(l.map((x) => x.join()).sort())
  if (sort(got) !== sort(want)) fail('messages differ')
  client.end(false, {}, () => { console.log('OK'); process.exit(0) })
})
client.on('connect', () => client.subscribe('js/#', { qos: 2 }, (err) => {
  if (err) fail(err)
  for (const [topic, payload] of want) client.publish(topic, payload, { qos: Number(topic.slice(3)) })
}))
