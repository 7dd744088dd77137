// The broadcasters of @bsv/sdk against a submit listener. In: a JSON file with the listener's address and transactions in the
// extended format, each with what should become of it. Out: one JSON line with what each broadcaster said.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const [modules, input] = process.argv.slice(2)
const { ARC, Teranode, Transaction } = createRequire(modules + '/')('@bsv/sdk')
const { address, good, again, double, orphan, bad, many, teranode, teranodeBad } = JSON.parse(readFileSync(input, 'utf8'))
const read = (hex) => Transaction.fromHexEF(hex)
const url = `http://${address}`
const arc = new ARC(url, { deploymentId: 'metanode-test' })
const said = {}
said.good = await arc.broadcast(read(good))
said.again = await arc.broadcast(read(again))
said.double = await arc.broadcast(read(double))
said.orphan = await arc.broadcast(read(orphan))
said.bad = await arc.broadcast(read(bad))
said.many = await arc.broadcastMany(many.map(read))
said.teranode = await new Teranode(`${url}/tx`).broadcast(read(teranode))
said.teranodeBad = await new Teranode(`${url}/tx`).broadcast(read(teranodeBad))
said.unsent = await new ARC('http://127.0.0.1:1').broadcast(read(good))
console.log(JSON.stringify(said))
