// Plays the other side with the npm package `jose`: reads and writes files in the working folder.
//   node jose.mjs seal ALG ENC    pub.jwk + text     -> sealed
//   node jose.mjs open ALG        key.pem + sealed   -> text
//   node jose.mjs sign ALG        key.pem + text     -> signed
//   node jose.mjs verify ALG      pub.jwk + signed   -> text
import { readFileSync, writeFileSync } from 'node:fs';
import * as jose from 'jose';

const [verb, alg, enc] = process.argv.slice(2);
const publicJwk = () => JSON.parse(readFileSync('pub.jwk', 'utf8'));
const publicKey = () => jose.importJWK(publicJwk(), alg);
const privateKey = () => jose.importPKCS8(readFileSync('key.pem', 'utf8'), alg);
const text = (name) => readFileSync(name, 'utf8');

const verbs = {
  async seal() {
    const header = { alg, enc, kid: publicJwk().kid };
    const jwe = new jose.CompactEncrypt(readFileSync('text')).setProtectedHeader(header);
    writeFileSync('sealed', await jwe.encrypt(await publicKey()));
  },
  async open() {
    const { plaintext } = await jose.compactDecrypt(text('sealed'), await privateKey());
    writeFileSync('text', plaintext);
  },
  async sign() {
    const jws = new jose.CompactSign(readFileSync('text')).setProtectedHeader({ alg });
    writeFileSync('signed', await jws.sign(await privateKey()));
  },
  async verify() {
    const { payload } = await jose.compactVerify(text('signed'), await publicKey());
    writeFileSync('text', payload);
  },
};

await verbs[verb]();
