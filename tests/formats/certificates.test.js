// Microsoft's device client for Node.js reads what the operator wrote for devices with certificates. run.sh sets
// CERTIFICATES.
'use strict';

const assert = require('node:assert/strict');
const { X509Certificate, createPrivateKey } = require('node:crypto');
const { EventEmitter } = require('node:events');
const fs = require('node:fs');
const { test } = require('node:test');

const { ConnectionString, X509AuthenticationProvider } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');

const devices = JSON.parse(fs.readFileSync(process.env.CERTIFICATES, 'utf8'));

// What the client would connect with, to where.
async function connection({ data, deviceId, hub }) {
  const files = { cert: data['tls.crt'], key: data['tls.key'] };
  const broker = new EventEmitter();
  const asked = new Promise((resolve) => {
    broker.connect = (config, done) => {
      resolve(config);
      done(new Error('there is no hub'));
    };
  });
  const provider = X509AuthenticationProvider.fromX509Options(deviceId, hub, files);
  await new Promise((resolve) => new Mqtt(provider, broker).connect(resolve));
  return asked;
}

test('there is something to be read', () => {
  assert.equal(devices.length, 4);
});

for (const device of devices) {
  const { config, data, deviceId, gateway, hub } = device;
  const whose = `of a device ${gateway ? 'behind a gateway' : 'of its own'}, with ${config}`;

  test(`the connection string ${whose} says that there is a certificate, and has no key`, () => {
    const fields = { HostName: hub, DeviceId: deviceId, x509: 'true' };
    const expected = gateway ? { ...fields, GatewayHostName: gateway } : fields;
    for (const text of [data.connectionString, data.IOTHUB_DEVICE_CONNECTION_STRING]) {
      assert.deepEqual({ ...ConnectionString.parse(text) }, expected);
    }
  });

  test(`the keys for MQTT ${whose} are what the client connects with`, async () => {
    const { clientId, sharedAccessSignature, username, x509 } = await connection(device);
    assert.equal(data.mqttClientId, clientId);
    const [identity] = username.split('&');
    assert.equal(data.mqttUsername, identity);
    assert.equal(sharedAccessSignature, undefined);
    assert.deepEqual(x509, { cert: data['tls.crt'], key: data['tls.key'] });
  });

  test(`certificate and key ${whose} belong together`, () => {
    const certificate = new X509Certificate(data['tls.crt']);
    assert.ok(certificate.checkPrivateKey(createPrivateKey(data['tls.key'])));
    assert.equal(data.certificates, data['tls.crt']);
    assert.equal(data['private-key'], data['tls.key']);
  });
}
