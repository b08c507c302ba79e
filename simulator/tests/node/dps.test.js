// Microsoft's own device client registers at the simulator. run.sh starts it and sets the variables.
'use strict';

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');

const client = require('./client.js');

const { DPS_PKI, DPS_PORT, DPS_CA_FILE, DPS_ADMIN, DPS_FLEET_KEY, DPS_FLEET_SECONDARY_KEY, DPS_SITE_KEY, DPS_CLOSED_KEY } =
  process.env;
const SCOPE = '0ne00000001';
const ca = fs.readFileSync(DPS_CA_FILE, 'utf8');

function deviceKey(groupKey, registrationId) {
  return crypto.createHmac('sha256', Buffer.from(groupKey, 'base64')).update(registrationId, 'utf8').digest('base64');
}

function register({ idScope = SCOPE, trust = ca, ...device }) {
  return client.register({ port: DPS_PORT, idScope, trust, ...device });
}

async function refusal(options) {
  return register(options).then(
    (result) => assert.fail(`registered: ${JSON.stringify(result)}`),
    (error) => error);
}

async function admin(method, path, body) {
  const answer = await fetch(`http://${DPS_ADMIN}${path}`, { method, body: body && JSON.stringify(body) });
  assert.equal(answer.status, 200);
  return answer.json();
}

async function requestsOf(id) {
  const { entries } = await admin('GET', '/v1/ledger');
  return entries.filter((entry) => entry.registrationId === id);
}

test('a device of a group polls until it gets its hub and its device id', async () => {
  const assigning = { registrationId: 'node-1', operations: ['poll'], times: 1, action: { type: 'assigning' } };
  await admin('POST', '/v1/faults', assigning);
  const key = deviceKey(DPS_FLEET_KEY, 'node-1');
  const result = await register({ id: 'node-1', key });
  assert.equal(result.status, 'assigned');
  assert.equal(result.assignedHub, 'hub-a.azure-devices.net');
  assert.equal(result.deviceId, 'node-1');
  assert.equal(result.substatus, 'initialAssignment');
  assert.equal(result.symmetricKey.enrollmentGroupId, 'fleet');

  const seen = await requestsOf('node-1');
  const calls = seen.map((entry) => `${entry.operation} ${entry.status}`);
  assert.deepEqual(calls, ['register 202', 'poll 202', 'poll 200']);
  assert.ok(seen.every((entry) => entry.key.slot === 'primary'));
  const check = { idScope: SCOPE, registrationId: 'node-1', key };
  assert.deepEqual(await admin('POST', '/v1/check-device-key', check), { accepted: true });
});

test('the secondary key lets a device in as well', async () => {
  const result = await register({ id: 'node-2', key: deviceKey(DPS_FLEET_SECONDARY_KEY, 'node-2') });
  assert.equal(result.assignedHub, 'hub-a.azure-devices.net');
  assert.equal((await requestsOf('node-2'))[0].key.slot, 'secondary');
});

test('a payload reaches the custom allocation and its answer reaches the device', async () => {
  const id = 'node-north';
  const result = await register({ id, key: deviceKey(DPS_SITE_KEY, id), payload: { site: 'north' } });
  assert.equal(result.assignedHub, 'hub-b.azure-devices.net');
  assert.deepEqual(result.payload, { region: 'north', interval: 30 });
});

test('a registration that ends failed is an error with its code', async () => {
  const id = 'node-nowhere';
  const error = await refusal({ id, key: deviceKey(DPS_SITE_KEY, id), payload: { site: 'nowhere' } });
  assert.equal(error.name, 'ProvisioningRegistrationFailedError');
  assert.equal(error.result.registrationState.errorCode, 400207);
});

test('a wrong key is refused', async () => {
  const error = await refusal({ id: 'node-3', key: deviceKey(DPS_FLEET_KEY, 'somebody-else') });
  assert.equal(error.name, 'UnauthorizedError');
  assert.equal(JSON.parse(error.responseBody).errorCode, 401002);
});

test('the group key itself is refused', async () => {
  const error = await refusal({ id: 'node-3', key: DPS_FLEET_KEY });
  assert.equal(error.name, 'UnauthorizedError');
});

test('a disabled enrollment is told as such', async () => {
  const error = await refusal({ id: 'node-4', key: deviceKey(DPS_CLOSED_KEY, 'node-4') });
  assert.match(error.message, /disabled/);
  assert.equal((await requestsOf('node-4'))[0].outcome, 'disabled');
});

test('an unknown id scope is not found', async () => {
  const error = await refusal({ idScope: '0ne99999999', id: 'node-5', key: deviceKey(DPS_FLEET_KEY, 'node-5') });
  assert.equal(error.response.statusCode, 404);
  assert.equal(JSON.parse(error.responseBody).errorCode, 404201);
});

// A device's certificate, with those that it sends besides.
function x509(name, ...others) {
  const pem = (file) => fs.readFileSync(path.join(DPS_PKI, file), 'utf8');
  return { cert: [name, ...others].map((each) => pem(`${each}.pem`)).join(''), key: pem(`${name}.key`) };
}

test('a device with a certificate of the group sends no token', async () => {
  const result = await register({ id: 'device-7', x509: x509('device-7', 'intermediate') });
  assert.equal(result.assignedHub, 'hub-a.azure-devices.net');
  assert.equal(result.deviceId, 'device-7');
  const seen = await requestsOf('device-7');
  assert.deepEqual(seen.map((entry) => entry.operation), ['register', 'poll']);
  for (const entry of seen) {
    assert.equal(entry.credential, 'certificate');
    assert.equal(entry.certificate.chainLength, 2);
    assert.equal(entry.key.enrollment, 'lorries');
  }
  const certificate = { pem: x509('device-7').cert };
  const check = { idScope: SCOPE, registrationId: 'device-7', certificate };
  assert.deepEqual(await admin('POST', '/v1/check-device-certificate', check), { accepted: true });
});

test('an individual enrollment takes its own certificate and names the device', async () => {
  const result = await register({ id: 'device-8', x509: x509('device-8') });
  assert.equal(result.registrationId, 'device-8');
  assert.equal(result.deviceId, 'device-eight');
});

test('a certificate without its intermediate CA is refused', async () => {
  const error = await refusal({ id: 'device-7', x509: x509('device-7') });
  assert.equal(error.name, 'UnauthorizedError');
  assert.equal(JSON.parse(error.responseBody).message, 'CA certificate not found.');
});

test('a certificate of another name is refused', async () => {
  const error = await refusal({ id: 'node-9', x509: x509('device-7', 'intermediate') });
  assert.equal(JSON.parse(error.responseBody).errorCode, 401002);
});

test('a server of another CA is not trusted and sees no request', async () => {
  const error = await refusal({ id: 'node-6', key: deviceKey(DPS_FLEET_KEY, 'node-6'), trust: [] });
  assert.match(`${error.code} ${error.message} ${error.innerError?.code}`, /CERT|SIGNATURE/i);
  assert.deepEqual(await requestsOf('node-6'), []);
});
