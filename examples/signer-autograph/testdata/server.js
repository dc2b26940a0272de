// A service that speaks like Autograph's /sign/hash, with the hawk package as the judge of requests.
// Environment: KEY (PEM file), USER and SECRET (Hawk), MODE ("" or a way to refuse). Prints its port.
'use strict';
const http = require('http');
const fs = require('fs');
const crypto = require('crypto');
const Hawk = require('hawk');

const key = fs.readFileSync(process.env.KEY, 'utf8');
const prefix = Buffer.from('3041300d060960864801650304020205000430', 'hex');
const nonces = new Set();
const credentials = (id) => (id === process.env.USER ? { id, key: process.env.SECRET, algorithm: 'sha256' } : null);
const nonceFunc = (secret, nonce, ts) => {
  if (nonces.has(nonce + ts)) throw new Error('nonce was used before');
  nonces.add(nonce + ts);
};

const server = http.createServer((req, res) => {
  const parts = [];
  req.on('data', (d) => parts.push(d));
  req.on('end', async () => {
    const body = Buffer.concat(parts).toString();
    const answer = (status, text, headers) => { res.writeHead(status, headers || {}); res.end(text); };
    try {
      await Hawk.server.authenticate(req, credentials, { nonceFunc, payload: body });
    } catch (err) {
      return answer(401, String(err.message || err));
    }
    if (req.method !== 'POST' || req.url !== '/prefix/sign/hash') return answer(404, 'no such page');
    if (process.env.MODE === 'throttle') return answer(429, 'too fast', { 'Retry-After': '7' });
    if (process.env.MODE === 'redirect') return answer(302, '', { Location: 'http://127.0.0.1:1/' });
    if (process.env.MODE === 'garbage') return answer(201, '[{"signature"');
    if (process.env.MODE === 'broken') return answer(503, 'on holiday');
    const [{ input, keyid, options }] = JSON.parse(body);
    const digest = Buffer.from(input, 'base64');
    if (digest.length !== 48 || options.sigalg !== 2) return answer(400, 'bad digest');
    if (keyid !== 'release') return answer(403, 'no such key for this user');
    const signature = crypto.privateEncrypt({ key, padding: crypto.constants.RSA_PKCS1_PADDING }, Buffer.concat([prefix, digest]));
    answer(201, JSON.stringify([{ ref: 'x', type: 'mar', mode: '', signer_id: keyid, signature: signature.toString('base64') }]));
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0));
process.stdin.resume();
